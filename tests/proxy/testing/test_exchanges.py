"""proxy/testing/exchanges.py: an exchange is what the frame would have made of the request."""

import pytest

from proxy.kernel.attempts import Usage
from proxy.kernel.exchange import PARTS, Exchange
from proxy.kernel.exchange_parts import AuthPart, Part
from proxy.testing import make_exchange, suppose
from proxy.testing.exchanges import SETTINGS


async def test_it_is_the_request_that_was_described() -> None:
    exchange = make_exchange(
        "PUT",
        "/v1/chat/completions",
        body=[b'{"model": ', b'"llama3.2"}'],
        headers=[("X-Team", "physics")],
        client="10.0.0.7",
        query=b"a=1",
        identity="ann",
        tenant="physics",
        policy="guests",
        started_at=5.0,
    )
    assert Exchange.of(exchange.scope) is exchange
    assert (exchange.scope["method"], exchange.scope["path"]) == ("PUT", "/v1/chat/completions")
    assert (exchange.scope["headers"], exchange.scope["query_string"]) == ([(b"x-team", b"physics")], b"a=1")
    assert (exchange.client, exchange.started_at) == ("10.0.0.7", 5.0)
    assert (exchange.identity, exchange.tenant, exchange.policy) == ("ann", "physics", "guests")
    assert await exchange.json() == {"model": "llama3.2"}


async def test_a_body_comes_in_its_parts_and_then_the_client_leaves() -> None:
    receive = make_exchange(body=[b"a", b"b"]).receive
    assert [(await receive()) for _ in range(3)] == [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.request", "body": b"b", "more_body": False},
        {"type": "http.disconnect"},
    ]


def test_what_is_supposed_of_it_stands_where_its_writer_would_note_it() -> None:
    exchange = make_exchange(identity="ann")
    usage = Usage(tokens_in=3, tokens_out=5)
    assert suppose(exchange, identity="bob", status=429, usage=usage, client="10.0.0.7", edition=7) is exchange
    assert (exchange.identity, exchange.status, exchange.usage) == ("bob", 429, usage)
    assert (exchange.client, exchange.edition) == ("10.0.0.7", 7)
    assert exchange.part(AuthPart).identity == "bob"


@pytest.mark.parametrize("part", PARTS)
def test_everything_that_has_a_writer_can_be_supposed(part: type[Part]) -> None:
    for name in part.__annotations__:
        value = object()
        exchange = suppose(make_exchange(), **{name: value})
        assert getattr(exchange.part(part), name) is value


@pytest.mark.parametrize("name", ["nothing", "json", "part", "_relay"])
def test_what_is_no_attribute_of_it_cannot_be_supposed(name: str) -> None:
    with pytest.raises(AttributeError, match=f"no attribute {name}"):
        suppose(make_exchange(), **{name: 1})


def test_its_body_has_the_default_bounds() -> None:
    assert make_exchange()._body._holding.room == SETTINGS.server.body.each
