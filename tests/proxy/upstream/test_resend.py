"""proxy/upstream/resend.py."""

import httpx
import pytest

from proxy.kernel.errors import ConnectionLost
from proxy.pool.backend import Backend
from proxy.simulator import Ollama
from proxy.testing import make_exchange, suppose
from proxy.upstream.resend import always, at_once, send_or_resend
from tests.support.options import make_backend


def get(backend: Backend) -> httpx.Request:
    headers = [(b"host", backend.host)]
    return httpx.Request(
        "GET", backend.url, headers=headers, stream=httpx.ByteStream(b""), extensions={"target": b"/api/version"}
    )


async def ask(backend: Backend, *, repeat: bool) -> int:
    response = await send_or_resend(backend.transport, get(backend), repeat=always if repeat else lambda _: False)
    await response.aread()
    return response.status_code


async def test_a_connection_closed_under_us_is_replaced() -> None:
    async with Ollama() as sim:
        backend = make_backend("a", sim.url)
        assert await ask(backend, repeat=True) == 200
        sim.fault("close", when=lambda seen: seen.connection == 1)
        assert await ask(backend, repeat=True) == 200
        assert sim.counters.requests == 3
        await backend.transport.aclose()


async def test_what_must_not_be_repeated_is_not() -> None:
    async with Ollama() as sim:
        backend = make_backend("a", sim.url)
        assert await ask(backend, repeat=False) == 200
        sim.fault("close")
        with pytest.raises(ConnectionLost):
            await ask(backend, repeat=False)
        assert sim.counters.requests == 2
        await backend.transport.aclose()


async def test_a_fresh_connection_that_dies_is_the_backends_fault() -> None:
    async with Ollama() as sim:
        backend = make_backend("a", sim.url)
        sim.fault("close")
        with pytest.raises(ConnectionLost):
            await ask(backend, repeat=True)
        assert sim.counters.requests == 1
        await backend.transport.aclose()


async def test_whether_it_goes_again_is_asked_when_it_is_lost() -> None:
    async with Ollama() as sim:
        backend = make_backend("a", sim.url)
        assert await ask(backend, repeat=True) == 200
        sim.fault("close", when=lambda seen: seen.connection == 1)
        asked: list[int] = []

        def repeat(error: ConnectionLost) -> bool:
            asked.append(sim.counters.requests)
            return error.reused

        assert (await send_or_resend(backend.transport, get(backend), repeat=repeat)).status_code == 200
        assert asked == [2]
        await backend.transport.aclose()


def test_what_was_sent_goes_again_at_once_where_nobody_above_sends_it_again() -> None:
    sent, unsent = (ConnectionLost("closed", sent=sent, reused=True) for sent in (True, False))
    exchange = make_exchange("POST", "/api/chat", body=b'{"model":"m"}')
    assert exchange.route is not None
    assert at_once(exchange, exchange.route, sent)
    suppose(exchange, resend=True)
    assert not at_once(exchange, exchange.route, sent)
    assert at_once(exchange, exchange.route, unsent)
    never = make_exchange("POST", "/api/copy", body=b"{}")
    assert never.route is not None
    assert not at_once(never, never.route, unsent)
