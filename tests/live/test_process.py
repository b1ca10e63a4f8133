"""What only a process of its own shows: how much memory it takes, and a stdout that nobody reads."""

import asyncio
import fcntl
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard

from proxy.simulator import Ollama
from tests.support.process import Process, start_process
from tests.support.wire import Client, ask, request

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def settings(sim: Ollama, *middleware: object, **more: object) -> dict[str, Any]:
    backends = [{"name": "a", "url": sim.url}]
    return {"listen": "127.0.0.1:0", "backends": backends, "middleware": ["logging", *middleware], **more}


def peak(proxy: Process) -> int:
    """Return the most memory that the process has ever had, bytes."""
    status = Path(f"/proc/{proxy.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def bomb(size: int) -> bytes:
    """Return a JSON body of `size` bytes, compressed to next to nothing."""
    press = zstandard.ZstdCompressor().compressobj()
    filler = b"A" * 2**20
    parts = [b'{"model":"llama3.2","x":"', *[filler] * (size // 2**20), b'"}']
    return b"".join(map(press.compress, parts)) + press.flush()


async def test_zstd_bombs_do_not_grow_memory(tmp_path: Path) -> None:
    """Fifty of them at once, a gigabyte each."""
    each, total = 4 * 2**20, 16 * 2**20
    body = bomb(2**30)
    assert len(body) < 200_000
    bounds = {"body": {"each": "4MiB", "total": "16MiB"}}
    async with Ollama() as sim:
        with_policy = settings(sim, {"access": {"models": ["llama3.2"]}}, server=bounds)
        async with Process.started(tmp_path / "proxy.yaml", with_policy) as proxy:
            assert (await ask(proxy.address, "POST", "/v1/messages", {**CHAT, "max_tokens": 1})).status == 200
            before = peak(proxy)
            answers = await asyncio.gather(
                *(ask(proxy.address, "POST", "/v1/messages", body, {"Content-Encoding": "zstd"}) for _ in range(50))
            )
            assert {answer.status for answer in answers} <= {413, 429, 503}
            assert 413 in {answer.status for answer in answers}
            assert len(sim.seen("/v1/messages")) == 1
            assert peak(proxy) - before < 2 * total + each
            await proxy.stop()


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="needs a pipe of a known size")
async def test_a_blocked_stdout_does_not_stop_the_proxy_and_loses_nothing_it_has_room_for(tmp_path: Path) -> None:
    requests = 1000
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    async with Ollama(token_delay=0.001, tokens=100_000, record=0) as sim:
        async with Process.started(tmp_path / "proxy.yaml", settings(sim), stdout=write_end) as proxy:
            os.close(write_end)
            stream, client = await Client.connect(proxy.address), await Client.connect(proxy.address)
            await stream.send(request("POST", "/api/chat", CHAT))
            await stream.read_head()
            for _ in range(requests):  # far more lines than the pipe takes
                await client.send(request("GET", "/api/version"))
                assert (await client.read()).status == 200
                assert await stream.read_chunk()
            stream.hang_up()
            client.hang_up()
            reading = asyncio.create_task(asyncio.to_thread(_read, read_end))
            proxy.process.terminate()
            await proxy.process.communicate()
            assert proxy.process.returncode == 0
            lines = [orjson.loads(line) for line in (await reading).splitlines()]
            assert sum(line["event"] == "request" for line in lines) == requests + 1


def _read(pipe: int) -> bytes:
    with open(pipe, "rb") as stream:
        return stream.read()


async def test_a_process_heeds_signals_that_the_suite_was_told_to_ignore() -> None:
    """The suite ignores SIGINT in the background of a script, and SIGHUP under nohup; what it starts must not."""
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
    code = f"import signal; print([signal.getsignal(number) is signal.SIG_IGN for number in {[*map(int, numbers)]}])"
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        process = await start_process(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    assert said.decode().strip() == str([False] * len(numbers))
