"""proxy/server/deadline_timer.py."""

import asyncio

from proxy.server.deadline_timer import Deadline


async def test_it_runs_what_is_late_once() -> None:
    calls: list[int] = []
    late = asyncio.Event()
    deadline = Deadline(asyncio.get_running_loop())

    def note() -> None:
        calls.append(1)
        late.set()

    deadline.start(0, note)
    async with asyncio.timeout(5):
        await late.wait()
    assert calls == [1]


async def test_stopped_it_runs_nothing() -> None:
    deadline = Deadline(asyncio.get_running_loop())
    calls: list[int] = []
    deadline.start(0, lambda: calls.append(1))
    deadline.stop()
    deadline.stop()
    later = asyncio.Event()
    deadline.start(0.001, later.set)
    async with asyncio.timeout(5):
        await later.wait()
    assert calls == []


async def test_a_running_deadline_stays_as_it_is() -> None:
    deadline = Deadline(asyncio.get_running_loop())
    first, second = asyncio.Event(), asyncio.Event()
    deadline.start(0.001, first.set)
    deadline.start(0, second.set)
    async with asyncio.timeout(5):
        await first.wait()
    assert not second.is_set()


async def test_it_can_be_started_again_from_its_callback() -> None:
    deadline = Deadline(asyncio.get_running_loop())
    late = asyncio.Event()
    deadline.start(0, lambda: deadline.start(0, late.set))
    async with asyncio.timeout(5):
        await late.wait()
