import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.simulator.__main__ import parser
from tests.proxy.simulator.client import Answer, Wire, chat
from tests.support.process import start_process


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run the simulator as a process of its own, and say where it listens."""
    running = await start_process(
        sys.executable, "-m", "proxy.simulator", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert running.stdout is not None
        async with asyncio.timeout(30):
            line = (await running.stdout.readline()).decode()
        yield running, line.removeprefix("listening on ").strip()
    finally:
        if running.returncode is None:
            running.terminate()
        _, errors = await running.communicate()
        assert errors == b""


async def ask(url: str, method: str, target: str, body: dict[str, object] | None = None) -> Answer:
    host, _, port = url.removeprefix("http://").rpartition(":")
    async with Wire(*await asyncio.open_connection(host, int(port), limit=1 << 22)) as wire:
        return await wire.ask(method, target, body)


async def test_a_process_of_its_own() -> None:
    arguments = (
        "--port",
        "0",
        "--models",
        "a,b:7b,tiny",
        "--seed",
        "7",
        "--tokens",
        "3",
        "--control",
        "--version",
        "9.9",
    )
    async with process(*arguments) as (running, url):
        assert (await ask(url, "GET", "/api/version")).json() == {"version": "9.9"}
        names = [model["name"] for model in (await ask(url, "GET", "/api/tags")).json()["models"]]
        assert set(names) == {"a:latest", "b:7b", "tiny:latest"}
        assert len((await ask(url, "POST", "/api/generate", {"model": "a", "prompt": "x"})).lines()) == 4
        assert (await ask(url, "POST", "/api/chat", chat())).status == 404
        counters = (await ask(url, "GET", "/_sim/counters")).json()
        assert (counters["requests"], counters["tokens_delivered"]) == (4, 3)
        assert (await ask(url, "POST", "/api/show", {"model": "tiny"})).json()["parameters"].split() == [
            "num_ctx",
            "512",
        ]
        running.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await running.wait() == 0


async def test_a_unix_socket_with_tls(tmp_path: Path, pem: Path) -> None:
    path = tmp_path / "sim.sock"
    async with process("--unix", str(path), "--cert", str(pem)) as (_, where):
        assert where == str(path)
        assert path.is_socket()


def test_the_defaults_are_those_of_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = parser().parse_args([])
    assert (arguments.port, arguments.record, arguments.tokens, arguments.check_host) == (11434, 0, 24, True)
    with pytest.raises(SystemExit):
        parser().parse_args(["--help"])
    assert "which no Ollama has" in capsys.readouterr().out
    assert json.dumps(vars(arguments))
