"""proxy/ops/document_types.py."""

from dataclasses import fields, is_dataclass

import pytest
from pydantic import TypeAdapter

from proxy.ops import document_types

CLASSES = [
    found
    for found in vars(document_types).values()
    if isinstance(found, type) and is_dataclass(found) and found.__module__ == document_types.__name__
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_each_has_a_schema_with_a_description(kind: type) -> None:
    schema = TypeAdapter(kind).json_schema()
    assert schema["description"] == kind.__doc__
    assert set(schema["properties"]) == {field.name for field in fields(kind)}


def test_what_is_not_plain_from_its_name_is_described() -> None:
    properties = TypeAdapter(document_types.Request).json_schema()["properties"]
    assert properties["queued"]["description"] == "Seconds that the request has spent in the queue."
    assert "description" in TypeAdapter(document_types.Backend).json_schema()["properties"]["slots"]
