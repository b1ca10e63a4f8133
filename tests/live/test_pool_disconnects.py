"""A client that leaves gives its place to the next one, whatever it waits for: a slot, a load, another backend."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.proxy import Running, running
from tests.support.wire import Client, ask, request

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
LLAMA = "registry.ollama.ai/library/llama3.2:latest"
EMBED: dict[str, Any] = {"model": "nomic-embed-text", "input": "hi"}
SOON = 0.25
"""Seconds within which the place must be free."""
SLOW_RETRY = {
    "retry": {
        "attempts": 5,
        "backoff": {"base": "20s", "max": "20s"},
        "hedge": {"after": "20ms"},
        "fallback": {"phi4": ["llama3.2"]},
    }
}
CHAIN: list[Any] = ["logging", {"queue": {"wait": "30s"}}, SLOW_RETRY]

State = Callable[[Running, Ollama, Ollama], Awaitable[Client]]


clients: list[Client] = []
"""Those that stay."""


async def begin(proxy: Running, body: dict[str, Any] = CHAT, path: str = "/api/chat") -> Client:
    client = await Client.connect(proxy.address)
    clients.append(client)
    await client.send(request("POST", path, body))
    return client


async def connecting(proxy: Running, one: Ollama, two: Ollama) -> Client:
    await one.blackhole()
    client = await begin(proxy, path="/-/backends/b1/api/chat")
    await eventually(lambda: proxy.app.pool.backends[0].active == 1)
    return client


async def while_its_model_is_loaded(proxy: Running, one: Ollama, two: Ollama) -> Client:
    for sim in (one, two):
        sim.settings.load_delay = 30.0
    client = await begin(proxy)
    await eventually(lambda: one.counters.loading + two.counters.loading == 1)
    return client


async def in_line_while_another_loads_its_model(proxy: Running, one: Ollama, two: Ollama) -> Client:
    await while_its_model_is_loaded(proxy, one, two)
    client = await begin(proxy)
    await eventually(lambda: bool(queued(proxy)))
    return client


async def while_another_loads_its_model(proxy: Running, one: Ollama, two: Ollama) -> Client:
    first = await while_its_model_is_loaded(proxy, one, two)
    client = await begin(proxy)
    await eventually(lambda: bool(proxy.app.scheduler.status().waiting))
    leave(first)
    await eventually(lambda: one.counters.loading + two.counters.loading == 1 and not queued(proxy))
    return client


async def in_line_for_a_backend_that_is_warm(proxy: Running, one: Ollama, two: Ollama) -> Client:
    one.settings.load_delay = 0.5  # as long as that it is worth waiting
    assert (await ask(proxy.address, "POST", "/-/backends/b1/api/chat", CHAT)).clean
    one.fault("stall", route="/api/chat")
    first = await begin(proxy)
    await one.wait_for(lambda: one.counters.active == 1)
    client = await begin(proxy)
    await eventually(lambda: bool(queued(proxy)))
    leave(first)  # and the second one takes its place, at once
    await one.wait_for(lambda: one.counters.active == 0)
    return client


async def in_line_for_a_backend_that_it_names(proxy: Running, one: Ollama, two: Ollama) -> Client:
    held = one.fault("stall", route="/api/chat", times=None)
    first = await begin(proxy, path="/-/backends/b1/api/chat")
    await one.wait_for(lambda: held.hits == 1)
    client = await begin(proxy, path="/-/backends/b1/api/chat")
    await eventually(lambda: bool(queued(proxy)))
    leave(first)
    await one.wait_for(lambda: held.hits == 2)
    return client


async def in_line_for_another_attempt(proxy: Running, one: Ollama, two: Ollama) -> Client:
    """Its first backend failed it, the other one is full."""
    one.settings.load_delay = 0.5
    assert (await ask(proxy.address, "POST", "/-/backends/b1/api/chat", CHAT)).clean
    two.fault("stall", route="/api/chat", times=None)
    await begin(proxy, path="/-/backends/b2/api/chat")
    await two.wait_for(lambda: two.counters.active == 1)
    one.fault("status", status=500, route="/api/chat", times=None)
    client = await begin(proxy)
    await eventually(lambda: bool(queued(proxy)))
    return client


async def with_another_model_in_its_place(proxy: Running, one: Ollama, two: Ollama) -> Client:
    """Its own failed everywhere, so that it waits for the first byte of the one that stands in for it."""
    for sim in (one, two):
        sim.fault("status", status=500, times=None, when=lambda seen: b"phi4" in seen.body)
    held = [sim.fault("stall", times=None, when=lambda seen: b"llama3.2" in seen.body) for sim in (one, two)]
    client = await begin(proxy, {**CHAT, "model": "phi4"})
    await eventually(lambda: sum(fault.hits for fault in held) == 1)
    return client


async def in_line_for_another_model_in_its_place(proxy: Running, one: Ollama, two: Ollama) -> Client:
    """Its own failed everywhere, and what could stand in for it is busy."""
    for sim in (one, two):
        sim.fault("status", status=500, times=None, when=lambda seen: b"phi4" in seen.body)
        sim.fault("stall", times=None, when=lambda seen: b"llama3.2" in seen.body)
    for number, sim in enumerate((one, two), 1):
        proxy.app.pool.backends[number - 1].model_slots = {LLAMA: 1}
        proxy.app.pool.backends[number - 1].slots = 2
        await begin(proxy, path=f"/-/backends/b{number}/api/chat")
        await sim.wait_for(lambda sim=sim: sim.counters.active == 1)  # type: ignore[misc]
    client = await begin(proxy, {**CHAT, "model": "phi4"})
    await eventually(lambda: bool(queued(proxy)))
    return client


async def backing_off(proxy: Running, one: Ollama, two: Ollama) -> Client:
    for sim in (one, two):
        sim.fault("status", status=503, route="/api/chat", times=None)
    client = await begin(proxy)
    await eventually(lambda: len(one.seen("/api/chat")) + len(two.seen("/api/chat")) >= 2)
    return client


async def asking_two(proxy: Running, one: Ollama, two: Ollama) -> Client:
    held = [sim.fault("stall", route="/api/embed") for sim in (one, two)]
    client = await begin(proxy, EMBED, "/api/embed")
    await eventually(lambda: all(fault.hits for fault in held))
    return client


async def on_trial(proxy: Running, one: Ollama, two: Ollama) -> Client:
    """It is the one request that an ejected backend is given."""
    health = proxy.app.pool.backends[0].health
    health.eject(time.monotonic() - 3600, "reset")
    one.fault("stall", route="/api/chat")
    await two.stop()
    proxy.app.pool.backends[1].health.draining = True
    client = await begin(proxy)
    await one.wait_for(lambda: one.counters.active == 1)
    assert not health.usable(time.monotonic())
    return client


def leave(client: Client) -> None:
    client.hang_up()
    clients.remove(client)


def queued(proxy: Running) -> dict[str, int]:
    return proxy.app.scheduler.status().waiting


def busy(proxy: Running) -> bool:
    return bool(queued(proxy)) or sum(backend.leases for backend in proxy.app.pool.backends) > len(clients)


@pytest.fixture(autouse=True)
def _nobody_stays() -> Iterator[None]:
    yield
    clients.clear()


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize(
    "state",
    [
        connecting,
        while_its_model_is_loaded,
        in_line_while_another_loads_its_model,
        while_another_loads_its_model,
        in_line_for_a_backend_that_is_warm,
        in_line_for_a_backend_that_it_names,
        in_line_for_another_attempt,
        with_another_model_in_its_place,
        in_line_for_another_model_in_its_place,
        backing_off,
        asking_two,
        on_trial,
    ],
)
async def test_its_place_is_free_soon(state: State, reset: bool) -> None:
    async with Ollama() as one, Ollama() as two:
        hosts = [{"name": f"b{number}", "url": sim.url, "slots": 1} for number, sim in enumerate((one, two), 1)]
        pool = {"grace": "0s", "timeouts": {"connect": "30s"}}
        async with running(*hosts, middleware=CHAIN, pool=pool) as proxy:
            client = await state(proxy, one, two)
            clients.remove(client)
            gone = time.monotonic()
            client.hang_up(reset=reset)
            await eventually(lambda: not busy(proxy))
            assert time.monotonic() - gone < SOON
            assert all(backend.health.usable(time.monotonic()) for backend in proxy.app.pool.backends[:1])
            for other in clients:
                other.hang_up()
            for sim in (one, two):
                sim.clear()


async def test_the_place_is_held_back_where_the_runner_cannot_know_yet() -> None:
    async with Ollama() as sim:
        host = {"name": "b1", "url": sim.url, "slots": 1}
        async with running(host, middleware=CHAIN, pool={"grace": "300ms"}) as proxy:
            sim.fault("stall", route="/api/chat")
            client = await begin(proxy)
            await sim.wait_for(lambda: sim.counters.active == 1)
            client.hang_up()
            await proxy.log.request()
            gone = time.monotonic()
            assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).clean
            assert time.monotonic() - gone >= 0.2


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
async def test_who_waits_for_a_slot_that_is_held_back_may_leave_too(reset: bool) -> None:
    async with Ollama() as sim:
        host = {"name": "b1", "url": sim.url, "slots": 1}
        async with running(host, middleware=CHAIN, pool={"grace": "20s"}) as proxy:
            sim.fault("stall", route="/api/chat")
            first = await begin(proxy)
            await sim.wait_for(lambda: sim.counters.active == 1)
            leave(first)
            await proxy.log.request()
            assert proxy.app.pool.backends[0].active == 1
            client = await begin(proxy)
            await eventually(lambda: bool(queued(proxy)))
            gone = time.monotonic()
            client.hang_up(reset=reset)
            await eventually(lambda: not queued(proxy))
            assert time.monotonic() - gone < SOON
            assert proxy.app.pool.backends[0].active == 1


async def test_of_a_thousand_that_leave_nothing_is_left() -> None:
    """In every state in turn, at random moments."""
    async with Ollama(load_delay=0.05, prompt_delay=0.02, num_parallel=4) as one, Ollama(prompt_delay=0.02) as two:
        hosts = [{"name": f"b{number}", "url": sim.url, "slots": 4} for number, sim in enumerate((one, two), 1)]
        one.fault("status", status=500, times=None, when=lambda seen: seen.id % 3 == 0)
        two.fault("reset", times=None, when=lambda seen: seen.id % 3 == 1)
        async with running(*hosts, middleware=CHAIN, pool={"grace": "10ms"}) as proxy:

            async def one_of_them(number: int) -> None:
                client = await begin(proxy, CHAT if number % 4 else EMBED, "/api/chat" if number % 4 else "/api/embed")
                await asyncio.sleep(0.01 * (number % 7))
                client.hang_up(reset=number % 2 == 0)

            for start in range(0, 1000, 100):
                await asyncio.gather(*(one_of_them(number) for number in range(start, start + 100)))
            clients.clear()
            await eventually(lambda: not proxy.app.frame.live and not busy(proxy))
            for backend in proxy.app.pool.backends:
                assert (backend.active, backend.leases) == (0, 0)
                assert not backend.loading
                assert not backend.active_by_model
