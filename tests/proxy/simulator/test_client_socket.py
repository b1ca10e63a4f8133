from proxy.simulator import Ollama
from tests.proxy.simulator.client import Wire, chat, encode

BOTH_LOOPS = True


async def test_a_reader_that_stops_makes_the_model_wait() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a ReadTransport too
        await wire.send(encode("POST", "/api/chat", chat(100_000)))
        await sim.wait_for(lambda: sim.counters.generating == 1)
        (connection,) = sim._service.connections
        await sim.wait_for(lambda: connection.paused)
        generated = sim.counters.tokens_generated
        assert 0 < generated < 100_000
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]  # a ReadTransport too
        await wire.reader.readexactly(1 << 22)
        await sim.wait_for(lambda: sim.counters.tokens_generated > generated)
