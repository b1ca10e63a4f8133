"""A client that leaves stops its generation, wherever it was waiting, and leaves nothing behind."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.proxy import Running, running
from tests.support.wire import Client, request

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": True}
SOON = 0.25
"""Seconds within which the upstream connection must be closed (DESIGN.md, the frame)."""

State = Callable[[Running, Ollama], Awaitable[Client]]


async def connecting(proxy: Running, sim: Ollama) -> Client:
    await sim.blackhole()
    return await begin(proxy, CHAT)


async def before_the_first_byte(proxy: Running, sim: Ollama) -> Client:
    sim.fault("stall", route="/api/chat", times=None)
    client = await begin(proxy, CHAT)
    await sim.wait_for(lambda: sim.counters.active == 1)
    return client


async def in_the_stream(proxy: Running, sim: Ollama) -> Client:
    sim.settings.token_delay = 0.01
    sim.settings.tokens = 100_000
    client = await begin(proxy, CHAT)
    await client.read_head()
    await client.read_chunk()
    return client


async def not_streaming(proxy: Running, sim: Ollama) -> Client:
    sim.settings.token_delay = 0.01
    sim.settings.tokens = 100_000
    client = await begin(proxy, {**CHAT, "stream": False})
    await sim.wait_for(lambda: sim.counters.active == 1)
    return client


async def uploading(proxy: Running, sim: Ollama) -> Client:
    client = await Client.connect(proxy.address)
    digest = "sha256:" + "0" * 64
    head = f"POST /api/blobs/{digest} HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n"
    await client.send(head.encode() + b"x" * 1000)
    await sim.wait_for(lambda: sim.counters.active == 1)
    return client


async def retrying(proxy: Running, sim: Ollama) -> Client:
    sim.fault("status", status=503, route="/api/chat", times=None)
    client = await begin(proxy, CHAT)
    await sim.wait_for(lambda: sim.counters.requests >= 1)
    return client


async def begin(proxy: Running, body: dict[str, Any]) -> Client:
    client = await Client.connect(proxy.address)
    await client.send(request("POST", "/api/chat", body))
    return client


def left_over(proxy: Running) -> dict[str, int]:
    """What must be nothing when all clients are gone."""
    backend = proxy.app.pool.backends[0]
    return {
        "live": len(proxy.app.frame.live),
        "active": backend.active,
        "open_not_idle": backend.transport.open - backend.transport.idle,  # type: ignore[attr-defined]
        "held": proxy.app.frame._bodies.held,
    }


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize(
    "state", [connecting, before_the_first_byte, in_the_stream, not_streaming, uploading, retrying]
)
async def test_upstream_is_closed_soon(state: State, reset: bool) -> None:
    slow_retry = {"retry": {"attempts": 10, "backoff": {"base": "5s", "max": "10s"}}}
    at_once = {"grace": "0s"}
    async with Ollama() as sim, running(sim.url, middleware=["logging", slow_retry], pool=at_once) as proxy:
        client = await state(proxy, sim)
        gone = time.monotonic()
        client.hang_up(reset=reset)
        line = await proxy.log.request()
        await sim.wait_for(lambda: sim.counters.active == 0)
        assert time.monotonic() - gone < SOON
        assert line["outcome"] == "client_gone"
        assert not any(left_over(proxy).values())
        sim.clear()


async def test_nothing_is_left_after_five_thousand_of_them() -> None:
    """FIN and RST, in every state in turn, some cancelled twice."""
    states: list[dict[str, Any]] = [CHAT, {**CHAT, "stream": False}]
    async with Ollama(token_delay=0.005, tokens=10_000, num_parallel=10_000, record=0) as sim:
        async with running(sim.url, middleware=["retry"]) as proxy:
            tasks_before = len(asyncio.all_tasks())

            async def one(number: int) -> None:
                client = await begin(proxy, states[number % 2])
                if number % 4 == 0:
                    await client.read_head()
                client.hang_up(reset=number % 3 == 0)

            for start in range(0, 5_000, 100):
                await asyncio.gather(*(one(number) for number in range(start, start + 100)))
            await sim.wait_for(lambda: sim.counters.active == 0, timeout=20)
            await eventually(lambda: not any(left_over(proxy).values()) and len(asyncio.all_tasks()) <= tasks_before)
            await sim.wait_for(lambda: sim.counters.connections_open == 0)
            assert sim.counters.tokens_generated < 5_000 * 200
