import asyncio

import pytest

from proxy.simulator import Ollama
from tests.proxy.simulator.client import Wire, ask, encode

BOTH_LOOPS = True


async def test_requests_come_byte_by_byte() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        for byte in encode("POST", "/api/show", {"model": "qwen3"}):
            await wire.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await wire.read()).status == 200
        assert sim.last.json() == {"model": "qwen3"}


async def test_chunked_bodies_and_their_trailers() -> None:
    body = b'4\r\n{"mo\r\n10;x=y\r\ndel":"llama3.2"}\r\n0\r\nX-Trailer: 1\r\n\r\n'
    async with Ollama() as sim, await Wire.open(sim) as wire:
        head = b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        await wire.send(head + body)
        assert (await wire.read()).status == 200
        assert (sim.last.body, sim.last.chunked, sim.last.header("x-trailer")) == (b'{"model":"llama3.2"}', True, None)
        assert (await wire.ask("GET", "/api/version")).status == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /api/version HTTP/1.1\r\n\r\n", 400),
        (b"GET /api/version HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /api/version HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"not http at all\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (1 << 21) + b"\r\n\r\n", 431),
    ],
)
async def test_bad_heads_never_become_requests(head: bytes, status: int) -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        await wire.send(head)
        answer = await wire.read()
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert not sim.requests


async def test_absolute_targets_are_taken() -> None:
    async with Ollama() as sim:
        assert (await ask(sim, "GET", "http://localhost/api/version?x=1")).status == 200
        assert (sim.last.route, sim.last.query) == ("/api/version", b"x=1")
