import pytest

from proxy.simulator import Ollama
from tests.proxy.simulator.client import Wire, ask, chat, encode


async def test_counters_of_a_stream() -> None:
    async with Ollama() as sim:
        streamed, whole = chat(7), chat(5, stream=False)
        answers = [await ask(sim, "POST", "/api/chat", body) for body in (streamed, whole)]
        counters = sim.counters
        assert (counters.requests, counters.connections, counters.loads) == (2, 2, 1)
        assert counters.tokens_generated == counters.tokens_delivered == 12
        assert [request.tokens for request in sim.requests] == [7, 5]
        assert counters.bytes_in == sum(len(encode("POST", "/api/chat", body)) for body in (streamed, whole))
        assert counters.bytes_out > sum(len(answer.body) for answer in answers)
        await sim.wait_for(lambda: counters.active == counters.connections_open == 0)


async def test_tokens_nobody_got_are_generated_but_not_delivered() -> None:
    async with Ollama(token_delay=0.001) as sim, await Wire.open(sim) as wire:
        await wire.send(encode("POST", "/api/chat", chat(100_000, stream=False)))
        await sim.wait_for(lambda: sim.counters.tokens_generated > 5)
        wire.hang_up()
        await sim.wait_for(lambda: sim.counters.cancelled == 1)
        assert (sim.counters.tokens_delivered, sim.last.tokens) == (0, 0)


async def test_waiting_tells_what_it_saw() -> None:
    async with Ollama() as sim:
        await ask(sim, "GET", "/")
        with pytest.raises(TimeoutError, match=r"not within 0.01 s; Counters\(connections=1, requests=1"):
            await sim.wait_for(lambda: sim.counters.requests == 2, timeout=0.01)


async def test_only_so_many_requests_are_kept() -> None:
    async with Ollama(record=2) as sim:
        for _ in range(5):
            await ask(sim, "GET", "/")
        assert [request.id for request in sim.requests] == [4, 5]
        assert sim.counters.requests == 5
    async with Ollama(record=0) as sim:
        await ask(sim, "GET", "/")
        assert (len(sim.requests), sim.counters.requests) == (0, 1)
