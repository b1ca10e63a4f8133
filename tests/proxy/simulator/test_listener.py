import asyncio
from pathlib import Path

import pytest

from proxy.simulator import Ollama
from tests.proxy.simulator.client import Wire, ask


async def test_a_host_that_was_killed_comes_back_on_its_port() -> None:
    async with Ollama() as sim:
        port = sim.port
        for _ in range(3):
            await sim.stop()
            with pytest.raises(ConnectionRefusedError):
                await Wire.open(sim)
            await sim.start()
            assert sim.port == port
            assert (await ask(sim, "GET", "/")).status == 200


async def test_refusing_leaves_open_connections_alone() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        assert (await wire.ask("GET", "/")).status == 200
        await sim.refuse()
        with pytest.raises(ConnectionRefusedError):
            await Wire.open(sim)
        assert (await wire.ask("GET", "/")).status == 200
        await sim.accept()
        assert (await ask(sim, "GET", "/")).status == 200


async def test_connections_to_a_black_hole_hang() -> None:
    async with Ollama() as sim:
        await sim.blackhole()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await Wire.open(sim)
        await sim.accept()
        assert (await ask(sim, "GET", "/")).status == 200


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "ollama.sock"
    async with Ollama(unix=str(path)) as sim:
        assert (await ask(sim, "GET", "/api/version")).status == 200
        assert sim.last.remote_port == 0
        await sim.stop()
        assert not path.exists()
        await sim.start()
        assert (await ask(sim, "GET", "/")).status == 200
    assert not path.exists()


async def test_ipv6() -> None:
    async with Ollama(host="::1") as sim:
        assert sim.url == f"http://[::1]:{sim.port}"
        assert (await ask(sim, "GET", "/")).status == 200


async def test_starting_twice_is_starting_once() -> None:
    async with Ollama() as sim:
        await sim.start()
        assert (await ask(sim, "GET", "/")).status == 200
