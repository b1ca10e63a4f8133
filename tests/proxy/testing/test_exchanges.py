"""proxy/testing/exchanges.py: an exchange is what the frame would have made of the request."""

from proxy.kernel.exchange import Exchange
from proxy.testing import make_exchange


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
