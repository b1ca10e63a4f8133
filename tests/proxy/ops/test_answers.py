"""proxy/ops/answers.py."""

import pytest

from proxy.ops.answers import HEADERS, KINDS, asset, json
from proxy.ops.app import ASSETS
from proxy.ops.document_types import Done


def test_documents_are_json() -> None:
    response = json(Done("it"), 422)
    assert (response.status_code, response.body, response.media_type) == (422, b'{"done":"it"}', "application/json")


@pytest.mark.parametrize("name", sorted(ASSETS))
def test_every_part_of_a_page_has_its_type(name: str) -> None:
    assert asset(name, b"").headers["content-type"] == KINDS[f".{name.rpartition('.')[2]}"]


def test_headers_are_lower_case_and_each_is_there_once() -> None:
    names = [name for name, _ in HEADERS]
    assert names == [name.lower() for name in names]
    assert len(set(names)) == len(names)
