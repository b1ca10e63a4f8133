import asyncio

import pytest

from proxy.simulator import Ollama
from tests.proxy.simulator.client import Wire, ask, chat, encode


async def test_active_requests_and_their_maximum() -> None:
    async with Ollama(num_parallel=2, token_delay=60) as sim:
        wires = [await Wire.open(sim) for _ in range(5)]
        for wire in wires:
            await wire.send(encode("POST", "/api/chat", chat()))
        await sim.wait_for(lambda: (sim.counters.generating, sim.counters.waiting) == (2, 3))
        assert sim.counters.active == 5
        for wire in wires:
            wire.hang_up()
        await sim.wait_for(lambda: sim.counters.active == 0)
        assert (sim.counters.max_active, sim.counters.max_generating, sim.counters.cancelled) == (5, 2, 5)


async def test_dropping_fails_what_is_in_hand() -> None:
    async with Ollama(token_delay=60) as sim, await Wire.open(sim) as wire:
        await wire.send(encode("POST", "/api/chat", chat()))
        await sim.wait_for(lambda: sim.counters.generating == 1)
        assert sim.drop(reset=False) == 1
        assert await wire.rest() == b""
        await sim.wait_for(lambda: sim.counters.active == 0)
        assert (sim.last.state, sim.counters.cancelled, sim.counters.generating) == ("failed", 0, 0)


async def test_a_bug_is_not_swallowed() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    sim = Ollama()
    sim.fault("status", when=lambda _: bool(1 // 0))
    await sim.start()
    with pytest.raises(ConnectionResetError):
        await ask(sim, "GET", "/")
    with pytest.raises(ZeroDivisionError):
        await sim.__aexit__(None, None, None)
    assert len(reported) == 1


async def test_the_control_surface_is_there_only_when_asked_for() -> None:
    async with Ollama() as sim:
        assert (await ask(sim, "GET", "/_sim/counters")).status == 404
    async with Ollama(control=True) as sim:
        await ask(sim, "POST", "/api/chat", chat(3))
        counters = (await ask(sim, "GET", "/_sim/counters")).json()
        assert (counters["requests"], counters["tokens_delivered"], counters["active"]) == (1, 3, 0)
        assert counters["by_route"] == {"/api/chat": 1}
        assert sim.counters.requests == 1
