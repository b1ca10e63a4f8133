"""proxy/sending.py."""

import httpx
import pytest

from proxy.backend import Backend, make_backend
from proxy.sending import send
from proxy.simulator import Ollama


def get(backend: Backend) -> httpx.Request:
    headers = [(b"host", backend.host)]
    return httpx.Request(
        "GET", backend.url, headers=headers, stream=httpx.ByteStream(b""), extensions={"target": b"/api/version"}
    )


async def ask(backend: Backend, *, repeat: bool) -> int:
    response = await send(backend.transport, get(backend), repeat=repeat)
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
        with pytest.raises(httpx.TransportError):
            await ask(backend, repeat=False)
        assert sim.counters.requests == 2
        await backend.transport.aclose()


async def test_a_fresh_connection_that_dies_is_the_backends_fault() -> None:
    async with Ollama() as sim:
        backend = make_backend("a", sim.url)
        sim.fault("close")
        with pytest.raises(httpx.TransportError):
            await ask(backend, repeat=True)
        assert sim.counters.requests == 1
        await backend.transport.aclose()
