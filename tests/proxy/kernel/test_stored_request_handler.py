"""proxy/kernel/stored_request_handler.py."""

import pytest

from proxy.kernel.errors import Refused
from proxy.kernel.stored_request_handler import page_size, parameters, send_json
from proxy.testing import call, make_exchange


def test_of_a_parameter_that_comes_twice_the_first_counts() -> None:
    exchange = make_exchange("GET", "/v1/files", query=b"limit=2&limit=9&after=a%20b")
    assert dict(parameters(exchange)) == {"limit": "2", "after": "a b"}


async def test_a_document_is_never_cached() -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        await send_json(send, {"a": 1}, 201)  # type: ignore[arg-type]

    answer = await call(app, make_exchange("GET", "/v1/files"))
    assert (answer.status, answer.body, answer.header("cache-control")) == (201, b'{"a":1}', "no-store")


@pytest.mark.parametrize(("text", "size"), [(None, 20), ("1", 1), ("100", 100), ("1000", 100)])
def test_a_page_has_a_size(text: str | None, size: int) -> None:
    assert page_size(text, 20, 100) == size


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "9" * 20, "٣"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(Refused):
        page_size(text, 20, 100)
