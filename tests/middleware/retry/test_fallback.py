"""middleware/retry/fallback.py; what comes of it is tested with the plugin."""

import pytest

from middleware.retry.fallback import HEADER, Fallbacks, stand_in, withdraw
from proxy.kernel.model_names import parse
from proxy.testing import make_exchange, suppose


@pytest.mark.parametrize(
    ("path", "model", "names"),
    [
        ("/api/chat", "LLAMA3.3:70B", ["llama3.1:8b", "llama3.2:latest"]),
        ("/v1/chat/completions", "library/llama3.3:70b", ["llama3.1:8b", "llama3.2:latest"]),
        ("/v1/embeddings", "llama3.3:70b", ["llama3.1:8b", "llama3.2:latest"]),
        ("/api/chat", "llama3.3", []),
        ("/api/chat", "llama3.1:8b", []),
        ("/api/show", "llama3.3:70b", []),
        ("/api/pull", "llama3.3:70b", []),
    ],
)
async def test_what_stands_in_for_what(path: str, model: str, names: list[str]) -> None:
    fallbacks = Fallbacks({"llama3.3:70b": ["llama3.1:8b", "llama3.2"]})
    exchange = make_exchange("POST", path, body=b'{"model":"%s"}' % model.encode())
    await exchange.body()
    assert [other.short for other in fallbacks.of(exchange)] == names


async def test_only_the_name_changes_and_it_is_announced_once() -> None:
    one, two = parse("n"), parse("o:7b")
    assert one is not None
    assert two is not None
    exchange = make_exchange(body=b'{"x":1.0, "model" : "m"}', headers=[("content-length", "24")])
    suppose(exchange, tried=(*exchange.tried, "b1"))
    exchange.response_headers.append((b"retry-after", b"1"))
    await exchange.body()
    assert await stand_in(exchange, one)
    assert await stand_in(exchange, two)
    assert await exchange.body() == b'{"x":1.0, "model" : "o:7b"}'
    assert exchange.asked == parse("m")
    assert exchange.tried == ()
    assert exchange.response_headers == [(b"retry-after", b"1"), (HEADER, b"o:7b")]
    withdraw(exchange)
    assert exchange.response_headers == [(b"retry-after", b"1")]


async def test_a_body_that_can_be_read_in_two_ways_is_left_alone() -> None:
    other = parse("n")
    assert other is not None
    exchange = make_exchange(body=b'{"model":"m","model":"m"}')
    await exchange.body()
    assert not await stand_in(exchange, other)
    assert exchange.asked is None
