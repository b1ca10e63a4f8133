"""`store: sqlite:` on a proxy of its own process: what it counted survives a restart, and all but a second a kill."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import yaml

from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.process import ROOT, Process, start_process
from tests.support.wire import ask

CHAT = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": False}


def settings(sim: Ollama) -> dict[str, Any]:
    return {
        "listen": "127.0.0.1:0",
        "store": "sqlite:state.db",
        "backends": [{"name": "a", "url": sim.url}],
        "middleware": ["logging", {"rate_limit": {"requests": "5/day"}}],
    }


async def statuses(proxy: Process, many: int) -> list[int]:
    return [(await ask(proxy.address, "POST", "/api/chat", CHAT)).status for _ in range(many)]


async def test_a_budget_survives_a_restart(tmp_path: Path) -> None:
    async with Ollama() as sim:
        async with Process.started(tmp_path / "proxy.yaml", settings(sim)) as proxy:
            assert await statuses(proxy, 3) == [200] * 3
            await proxy.stop()
        async with Process.started(tmp_path / "proxy.yaml", settings(sim)) as proxy:
            assert await statuses(proxy, 3) == [200, 200, 429]
            await proxy.stop()
    names = sorted(name for name in os.listdir(tmp_path) if name != "proxy.yaml")
    assert names == ["state.db", "state.db.counters"]
    assert {os.stat(tmp_path / name).st_mode & 0o777 for name in names} == {0o600}


async def test_a_killed_proxy_forgets_no_more_than_was_not_written(tmp_path: Path) -> None:
    log = tmp_path / "state.db.counters-wal"
    async with Ollama() as sim:
        async with Process.started(tmp_path / "proxy.yaml", settings(sim)) as proxy:
            before = log.stat().st_size
            assert await statuses(proxy, 4) == [200] * 4
            await eventually(lambda: log.stat().st_size > before)
            await statuses(proxy, 1)
            size = log.stat().st_size
            await eventually(lambda: log.stat().st_size > size)  # the last of the five is written at the latest
            proxy.process.kill()
            await proxy.process.wait()
        async with Process.started(tmp_path / "proxy.yaml", settings(sim)) as proxy:
            assert await statuses(proxy, 1) == [429]
            await proxy.stop()


async def test_a_second_proxy_on_one_file_does_not_start(tmp_path: Path) -> None:
    async with Ollama() as sim, Process.started(tmp_path / "proxy.yaml", settings(sim)) as proxy:
        other = tmp_path / "other.yaml"
        other.write_text(yaml.safe_dump(settings(sim)))
        process = await start_process(
            *(sys.executable, "-m", "proxy.cli", "serve", "-c", str(other)),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, said = await process.communicate()
        assert process.returncode != 0
        assert b"one proxy at a time can use it" in said, output
        assert b"Traceback" not in said
        assert await statuses(proxy, 1) == [200]
