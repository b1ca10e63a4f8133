import asyncio
import math
from collections.abc import Callable

import pytest

from proxy.upstream.lazy_timer import LazyTimer
from tests.support.faketime import FakeLoop


class Deadline:
    """Something that becomes due and may move; notes when it was looked at, and when it was reached."""

    def __init__(self, due: float) -> None:
        self.loop = FakeLoop()
        self.due = due
        self.looked: list[float] = []
        self.reached: float | None = None
        self.timer = LazyTimer(self.loop.as_loop(), self.check)

    def check(self) -> float:
        now = self.loop.time()
        self.looked.append(now)
        if now < self.due:
            return self.due
        self.reached = now
        return math.inf


def test_runs_when_asked_and_then_no_more() -> None:
    deadline = Deadline(due=10)
    deadline.timer.ask(10)
    deadline.loop.advance(100)
    assert (deadline.reached, deadline.looked) == (10, [10])


def test_a_deadline_that_moves_costs_no_new_handle() -> None:
    deadline = Deadline(due=10)
    for due in range(10, 20):
        deadline.due = due
        deadline.timer.ask(due)
    assert deadline.loop.handles == 1
    deadline.loop.advance(100)
    assert (deadline.reached, deadline.looked) == (19, [10, 19])


def test_an_earlier_time_replaces_a_later_one() -> None:
    deadline = Deadline(due=10)
    deadline.timer.ask(1000)
    deadline.timer.ask(10)
    deadline.loop.advance(2000)
    assert (deadline.reached, deadline.looked) == (10, [10])


def test_can_be_asked_again_after_it_ran() -> None:
    deadline = Deadline(due=10)
    deadline.timer.ask(10)
    deadline.loop.advance(11)
    deadline.timer.ask(50)
    deadline.loop.advance(100)
    assert deadline.looked == [10, 50]


def test_never_is_never() -> None:
    deadline = Deadline(due=0)
    deadline.timer.ask(math.inf)
    deadline.loop.advance(100)
    assert (deadline.looked, deadline.loop.handles) == ([], 0)


def test_cancelled_for_good() -> None:
    deadline = Deadline(due=10)
    deadline.timer.ask(10)
    deadline.timer.cancel()
    deadline.timer.ask(5)
    deadline.timer.ask(-1)
    deadline.timer.cancel()
    deadline.loop.advance(100)
    assert deadline.looked == []


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, pytest.importorskip("uvloop").new_event_loop])
def test_on_a_real_loop(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    loop = new_loop()

    def check() -> float:
        loop.stop()
        return math.inf

    try:
        LazyTimer(loop, check).ask(loop.time() + 0.01)
        loop.run_forever()
    finally:
        loop.close()
