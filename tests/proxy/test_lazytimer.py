import asyncio
import math

from proxy.lazytimer import LazyTimer

BOTH_LOOPS = True


class Deadline:
    """Something that becomes due; notes when it was looked at."""

    def __init__(self, after: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.due = self.loop.time() + after
        self.looked = 0
        self.reached: asyncio.Future[float] = self.loop.create_future()
        self.timer = LazyTimer(self.loop, self.check)

    def check(self) -> float:
        self.looked += 1
        now = self.loop.time()
        if now + 0.002 < self.due:
            return self.due
        self.reached.set_result(now)
        return math.inf


async def test_runs_when_asked() -> None:
    deadline = Deadline(0.02)
    deadline.timer.ask(deadline.due)
    assert await deadline.reached >= deadline.due - 0.002
    assert deadline.looked == 1


async def test_looks_early_and_waits_on_when_the_deadline_has_moved() -> None:
    deadline = Deadline(0.02)
    deadline.timer.ask(deadline.due)
    deadline.due += 0.03
    deadline.timer.ask(deadline.due)
    assert await deadline.reached >= deadline.due - 0.002
    assert deadline.looked == 2


async def test_an_earlier_time_replaces_a_later_one() -> None:
    deadline = Deadline(0.01)
    deadline.timer.ask(deadline.due + 1000)
    deadline.timer.ask(deadline.due)
    async with asyncio.timeout(5):
        await deadline.reached


async def test_never_is_never() -> None:
    deadline = Deadline(0)
    deadline.timer.ask(math.inf)
    other = Deadline(0.02)
    other.timer.ask(other.due)
    await other.reached
    assert deadline.looked == 0


async def test_cancelled_for_good() -> None:
    deadline, other = Deadline(0), Deadline(0.03)
    deadline.timer.ask(deadline.due)
    deadline.timer.cancel()
    deadline.timer.ask(deadline.due)
    deadline.timer.ask(-1.0)
    other.timer.ask(other.due)
    await other.reached
    assert deadline.looked == 0
