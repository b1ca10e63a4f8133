"""The soak's clients notice what must not be."""

import asyncio
import random

import pytest

from bench.soak import hosts
from bench.soak import wire as wire_module
from bench.soak.clients import Clients, stream
from bench.soak.hosts import FAULTS, Fault, heal
from bench.soak.wire import Broken, Wire
from proxy.simulator import Ollama


def clients(host: Ollama) -> Clients:
    return Clients(host.port, {"alice": "op_key", "operator": "op_other"}, seed=1)


async def ask(host: Ollama, them: Clients, times: int = 12) -> None:
    for _ in range(times):
        wire = await Wire.connect(host.port)
        try:
            await stream(them, wire)
        finally:
            wire.leave(reset=True)


async def test_whole_streams_are_counted_and_are_the_same_each_time() -> None:
    async with Ollama(token_delay=0.0) as host:
        them = clients(host)
        await ask(host, them, 40)
        assert them.seen.whole == 40
        assert them.seen.wrong == []
        assert len(them.texts) < 40  # so that some were compared


async def test_other_words_are_noticed() -> None:
    async with Ollama(token_delay=0.0) as host:
        them = clients(host)
        await ask(host, them, 40)
        host.settings.seed += 1
        await ask(host, them, 40)
        assert them.seen.wrong


async def test_a_clean_end_without_a_terminator_is_noticed() -> None:
    async with Ollama(token_delay=0.0) as host:
        host.fault("end", after=3, times=None)
        them = clients(host)
        await ask(host, them, 1)
        assert "without its terminator" in them.seen.wrong[0]


async def test_what_breaks_off_is_no_whole_stream() -> None:
    async with Ollama(token_delay=0.0) as host:
        host.fault("truncate", after=3, times=None)
        them = clients(host)
        with pytest.raises(Broken):
            await ask(host, them, 1)
        assert them.seen.whole == 0


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_fault_can_be_healed(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "TOKEN_DELAY", 0.001)
    async with Ollama(token_delay=0.0) as host:
        await fault(host, random.Random(1))
        await heal(host)
        assert host.settings.token_delay == hosts.TOKEN_DELAY
        them = clients(host)
        await ask(host, them, 2)
        assert them.seen.whole == 2


async def test_a_request_that_hangs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "PATIENCE", 0.01)
    taken: list[asyncio.StreamWriter] = []
    noticed = asyncio.Event()

    class Noticing(Clients):
        def wrong(self, what: str) -> None:
            super().wrong(what)
            noticed.set()

    async with await asyncio.start_server(lambda _, writer: taken.append(writer), "127.0.0.1", 0) as server:
        them = Noticing(server.sockets[0].getsockname()[1], {"alice": "op_key", "operator": "op_other"}, seed=1)
        them.go.set()
        working = asyncio.create_task(them.work(0))
        await noticed.wait()
        working.cancel()
        await asyncio.wait([working])
        for writer in taken:
            writer.close()
    assert "nothing came" in them.seen.wrong[0]
    assert them.seen.broken == len(them.seen.wrong)
