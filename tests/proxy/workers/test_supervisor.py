"""proxy/workers/supervisor.py, with small workers of the test's own."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.kernel.shared_numbers import ABSENT, SharedNumbers, make_shared
from proxy.workers.supervisor import Supervisor
from proxy.workers.worker_process import WorkerProcess
from tests.support.backend import eventually

CODE = """
import asyncio, os, socket, sys
from proxy.workers.channel import ChannelError
from proxy.workers.member import Member

async def main():
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.setblocking(False)
    member, opened, stop = Member(sock), asyncio.Event(), asyncio.Event()
    member.hears["stop"] = lambda about: stop.set()
    member.hears["watch"] = lambda about: member.watch(lambda event: heard.append(event.decode()))
    heard = []

    async def pid(about):
        return os.getpid()

    async def everybody(about):
        return [[answer.worker, answer.said, answer.mine] for answer in await member.ask("pid")]

    async def events(about):
        return heard

    async def say(about):
        member.tell(b"hello from %d" % member.number)
        return member.watched

    for reply in (pid, everybody, events, say):
        member.on(reply.__name__, reply)
    talking = asyncio.create_task(member.channel.run(opened.set))
    await opened.wait()
    about = await member.channel.ask("begin", {}, timeout=10)
    if about["fails"]:
        return 1
    member.number = about["number"]
    member.channel.tell("serving")
    member.channel.tell("ready")
    await asyncio.wait([talking, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
    return 0

sys.exit(asyncio.run(main()))
"""


class House:
    def __init__(self, count: int) -> None:
        self.fails: set[int] = set()
        self.gone: list[int] = []
        self.over = asyncio.Event()
        fd = make_shared(count, 1)
        self.numbers = SharedNumbers(fd, rows=count, columns=1, row=0)
        self.supervisor = Supervisor(
            count,
            fds=[],
            numbers=self.numbers,
            replies={"begin": self.begin},
            amend={"pid": lambda about, answers: answers.update({0: "parent"})},
            gone=self.gone.append,
            stopping=self.over,
        )
        os.close(fd)

    async def begin(self, about: Mapping[str, Any]) -> dict[str, Any]:
        return {"number": about["worker"], "fails": about["worker"] in self.fails}


@asynccontextmanager
async def housed(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    (tmp_path / "small_worker.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("proxy.workers.worker_process.MODULE", "small_worker")
    house = House(count)
    try:
        async with asyncio.timeout(50):
            yield house
    finally:
        await house.supervisor.stop(lambda: 10.0)
        assert not house.supervisor.workers


async def test_one_asks_and_all_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with housed(3, tmp_path, monkeypatch) as house:
        assert await house.supervisor.start()
        await house.supervisor.all_ready()
        pids = {number: worker.pid for number, worker in house.supervisor.workers.items()}
        assert await house.supervisor.ask("pid", {}) == pids
        assert await house.supervisor.ask_one(2, "everybody", {}) == [
            [0, "parent", False],
            *([number, pid, number == 2] for number, pid in sorted(pids.items())),
        ]


async def test_events_go_to_those_who_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with housed(3, tmp_path, monkeypatch) as house:
        assert await house.supervisor.start()
        house.supervisor.workers[1].channel.tell("watch")
        while await house.supervisor.ask_one(2, "say", {}) is not True:
            pass
        while "hello from 2" not in await house.supervisor.ask_one(1, "events", {}):  # type: ignore[operator]
            pass
        assert await house.supervisor.ask_one(3, "events", {}) == []
        assert await house.supervisor.ask_one(1, "say", {}) is False, "nobody else watches"


async def test_one_that_dies_is_replaced_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with housed(2, tmp_path, monkeypatch) as house:
        assert await house.supervisor.start()
        before = {number: worker.pid for number, worker in house.supervisor.workers.items()}
        house.numbers.write(0, 1)
        os.kill(before[2], signal.SIGKILL)
        await eventually(lambda: 2 in house.gone)
        assert house.gone == [2]
        assert house.numbers.others(0) == [ABSENT]
        assert await house.supervisor.ask_one(2, "pid", {}) is None
        await house.supervisor.all_ready()
        now = await house.supervisor.ask("pid", {})
        assert now[1] == before[1]
        assert now[2] not in (None, before[2])
        assert house.supervisor.ended == 1


async def test_one_that_is_retired_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with housed(1, tmp_path, monkeypatch) as house:
        assert await house.supervisor.start()
        before = house.supervisor.workers[1].pid
        house.supervisor.retire(1)
        await eventually(lambda: 1 in house.gone)
        await house.supervisor.all_ready()
        assert await house.supervisor.ask_one(1, "pid", {}) not in (None, before)


@pytest.mark.parametrize("number", [1, 2])
async def test_a_start_that_one_does_not_survive_is_no_start(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with housed(2, tmp_path, monkeypatch) as house:
        house.fails = {number}
        assert not await house.supervisor.start()
        assert number in house.gone
        assert (2 in house.gone) == (number == 2), "where the first fails, no other is started"
        house.over.set()


async def test_what_one_said_that_has_gone_since_is_not_its_successors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its numbers were taken over when it went: said again they would count twice."""
    async with housed(2, tmp_path, monkeypatch) as house:
        assert await house.supervisor.start()
        first, second = house.supervisor.workers[1], house.supervisor.workers[2]
        os.kill(first.pid, signal.SIGSTOP)
        asked = asyncio.create_task(house.supervisor.ask("pid", {}, timeout=40))
        await eventually(lambda: "1 questions" in repr(first.channel) and "0 questions" in repr(second.channel))
        os.kill(second.pid, signal.SIGKILL)
        await eventually(lambda: 2 in house.gone)
        os.kill(first.pid, signal.SIGCONT)
        assert await asked == {1: first.pid, 2: None}


async def test_a_start_for_which_the_system_has_no_room_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("Too many open files")

    monkeypatch.setattr(WorkerProcess, "start", full)
    house = House(2)
    with pytest.raises(OSError, match="Too many"):
        await house.supervisor.start()
    await house.supervisor.stop(lambda: 1.0)
