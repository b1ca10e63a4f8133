"""A client that leaves stops its generation, wherever it was waiting, and leaves nothing behind."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from proxy.simulator import Ollama
from proxy.upstream.transport import Transport
from tests.support.backend import black_hole, eventually
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
    head = f"POST /api/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n"
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
    transports = [cast(Transport, backend.transport) for backend in proxy.app.pool.backends]
    return {
        "connections": len(proxy.server._connections()),
        "live": len(proxy.app.frame.live),
        "active": sum(backend.active for backend in proxy.app.pool.backends),
        "open_not_idle": sum(transport.open - transport.idle for transport in transports),
        "held": proxy.app.bodies.held,
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


LEAVING: list[tuple[str, str, bytes | dict[str, Any]]] = [
    ("streaming", "/-/backends/talks/api/chat", CHAT),
    ("not streaming", "/-/backends/talks/api/chat", {**CHAT, "stream": False}),
    ("before the first byte", "/-/backends/stalls/api/chat", CHAT),
    ("waiting in retry", "/-/backends/fails/api/chat", CHAT),
    ("connecting", "/-/backends/hole/api/chat", CHAT),
    ("uploading", f"/-/backends/talks/api/blobs/sha256:{'0' * 64}", b"x" * 1000),
]


@pytest.mark.timing(reason="each client leaves from a state that lasts a moment, and five thousand take half a minute")
@pytest.mark.timeout(180)
async def test_nothing_is_left_after_five_thousand_of_them() -> None:
    """By FIN and RST in turn, in every state; some the moment they came, others when they wait."""
    slow_retry = {"retry": {"attempts": 10, "budget": "100%", "backoff": {"base": "60s", "max": "60s"}}}
    async with endless() as talks, endless() as stalls, endless() as fails, black_hole() as hole:
        stalls.fault("stall", route="/api/chat", times=None)
        fails.fault("status", status=503, route="/api/chat", times=None)
        urls = {"talks": talks.url, "stalls": stalls.url, "fails": fails.url, "hole": hole}
        backends = [{"name": name, "url": url} for name, url in urls.items()]
        patient = {"timeouts": {"connect": "60s"}, "grace": "0s"}
        async with running(*backends, middleware=[slow_retry], pool=patient) as proxy:
            tasks_before = len(asyncio.all_tasks())

            async def one(number: int) -> None:
                state, path, body = LEAVING[number % len(LEAVING)]
                client = await Client.connect(proxy.address)
                length = {"Content-Length": "10000000"} if state == "uploading" else {}
                await client.send(request("POST", path, body, length))
                if state == "streaming" and number % 4:
                    await client.read_head()
                elif number % 5:
                    await asyncio.sleep(0.01)  # until most of them wait where they are to wait
                client.hang_up(reset=number // len(LEAVING) % 2 == 0)

            for start in range(0, 5_000, 100):
                await asyncio.gather(*(one(number) for number in range(start, start + 100)))
            hosts = (talks, stalls, fails)
            await eventually(lambda: not any(host.counters.active for host in hosts))
            await eventually(lambda: not any(left_over(proxy).values()) and len(asyncio.all_tasks()) <= tasks_before)
            assert min(host.counters.requests for host in hosts) > 300, [host.counters for host in hosts]
            assert talks.counters.tokens_generated < 5_000 * 200
        await eventually(lambda: not any(host.counters.connections_open for host in hosts))
        stalls.clear()


def endless() -> Ollama:
    return Ollama(token_delay=0.005, tokens=10_000, num_parallel=10_000, record=0)
