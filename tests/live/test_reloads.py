"""The policy file changes a hundred times under five hundred streams, every other time for the worse."""

import asyncio
import gc
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from config.load import load
from proxy.chain.build import Chain
from proxy.reload import Reloaded, Reloader
from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.proxy import Running, running
from tests.support.wire import ask

STREAMS: Final = 500
TOKENS: Final = 60
CHANGES: Final = 100
CHAT: Final = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": True}
MIDDLEWARE: Final = ["logging", "metrics", {"rate_limit": {"requests": "100000/minute"}}, "queue", "retry"]
MISTAKES: Final[tuple[dict[str, Any] | str, ...]] = (
    "backends: [",
    "",
    {"backends": []},
    {"middleware": ["logging", "retri"]},
    {"middleware": [{"rate_limit": {"requests": "many"}}]},
    {"store": "redis://host:port/0"},
    {"policies": {"guests": {"queue": {"dept": 1}}}},
    {"server": {"body": {"each": "2GiB", "total": "1GiB"}}},
)


class File:
    """A policy file; each good one can be told from all others by the largest body that it allows."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.allowed = 0
        """What the last good one says, in MiB."""
        self._good = {"backends": [{"name": "b1", "url": url}], "middleware": MIDDLEWARE}

    def write(self, number: int) -> bool:
        """Write the file of that number; return whether it is a good one."""
        good = number % 2 == 0
        if good:
            self.allowed = 1 + number
            content: dict[str, Any] | str = {**self._good, "server": {"body": {"each": f"{self.allowed}MiB"}}}
        else:
            mistake = MISTAKES[number // 2 % len(MISTAKES)]
            content = mistake if isinstance(mistake, str) else {**self._good, **mistake}
        new = self.path.with_suffix(".new")
        new.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        os.replace(new, self.path)
        return good


async def stream(proxy: Running) -> None:
    reply = await ask(proxy.address, "POST", "/api/chat", CHAT)
    assert reply.clean
    assert len(reply.chunks) == TOKENS + 1


async def change_and_let_it_be_seen(file: File, reloader: Reloader, number: int) -> None:
    before = reloader.last
    good = file.write(number)
    await eventually(lambda: reloader.last is not before)
    check(reloader.last, good)


async def change_and_ask_for_it(file: File, proxy: Running, number: int) -> None:
    good = file.write(number)
    reply = await ask(proxy.address, "POST", "/-/reload", headers={"Host": "localhost"})
    assert reply.status == (200 if good else 422)
    assert bool(json.loads(reply.body)["problems"]) is not good


def check(result: Reloaded, good: bool) -> None:
    assert bool(result.problems) is not good, result


async def check_in_force(file: File, proxy: Running) -> None:
    """Whatever file there is now, the last good one counts."""
    reply = await ask(proxy.address, "GET", "/-/config")
    assert json.loads(reply.body)["settings"]["server"]["body"]["each"] == f"{file.allowed}MiB"
    assert proxy.app.bodies.each == file.allowed * 2**20


def objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def chains(*, but: Sequence[Chain] = ()) -> list[Chain]:
    """Return every chain that there is, but those in `but`, which other tests left."""
    gc.collect()
    known = {id(chain) for chain in but}
    return [found for found in gc.get_objects() if type(found) is Chain and id(found) not in known]


@pytest.mark.timing(reason="a reload must be seen in ten seconds, a hundred times, on the loop of five hundred streams")
@pytest.mark.timeout(180)
async def test_no_stream_breaks_no_wrong_file_is_ever_in_force_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the changes are seen by the watcher of the file, half are asked for by the ops API."""
    monkeypatch.setattr("proxy.reload.LOOK_EVERY", 0.005)
    others = chains()
    async with (
        Ollama(num_parallel=STREAMS, tokens=TOKENS, token_delay=0.1) as sim,
        running(sim.url, middleware=MIDDLEWARE) as proxy,
    ):
        file = File(tmp_path / "proxy.yaml", sim.url)
        file.write(0)
        proxy.app.reloader = reloader = Reloader(proxy.app, lambda: load(file.path), file.path)
        assert not reloader.reload().problems
        (backend,) = proxy.app.pool.backends
        # They run for as long as it takes: what is before the last token comes at its own pace.
        last = sim.fault("stall", route="/api/chat", after=TOKENS - 1, times=None)
        async with asyncio.TaskGroup() as streams:
            for _ in range(STREAMS):
                streams.create_task(stream(proxy))
            await sim.wait_for(lambda: sim.counters.active == STREAMS, timeout=30)
            reloader.start()
            for number in range(1, CHANGES // 2 + 1):
                await change_and_let_it_be_seen(file, reloader, number)
                await check_in_force(file, proxy)
            await reloader.stop()
            for number in range(CHANGES // 2 + 1, CHANGES + 1):
                await change_and_ask_for_it(file, proxy, number)
                await check_in_force(file, proxy)
            assert sim.counters.active == STREAMS
            last.release()
        lines = [line for line in proxy.log.requests if line["route"] == "/api/chat"]
        assert len(lines) == STREAMS
        assert {line["outcome"] for line in lines} == {"completed"}
        assert {line["config_generation"] for line in lines} == {2}
        assert proxy.app.frame.current.number == 2 + CHANGES // 2
        assert proxy.app.pool.backends == [backend], "a host that did not change is the same one"
        assert len(chains(but=others)) == 1, "chains of former files are still there"
        before = objects()
        for number in range(CHANGES + 1, 2 * CHANGES + 1):
            file.write(number)
            check(reloader.reload(), number % 2 == 0)
        proxy.log.raw.clear()
        assert objects() - before < 1000
