"""proxy/body.py."""

import asyncio
import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.asgi import Message
from proxy.body import BodyBudget
from proxy.errors import ClientGone, Refused


def test_one_body_has_a_bound() -> None:
    budget = BodyBudget(each=10, total=100)
    budget.hold(6)
    budget.hold(4, already=6)
    with pytest.raises(Refused) as caught:
        budget.hold(1, already=10)
    assert caught.value.status == 413
    assert budget.held == 10


def test_all_bodies_together_have_a_bound() -> None:
    budget = BodyBudget(each=10, total=15)
    budget.hold(10)
    with pytest.raises(Refused) as caught:
        budget.hold(6)
    assert (caught.value.status, caught.value.code) == (503, "body_memory_exhausted")
    assert caught.value.headers == {"retry-after": "1"}
    assert budget.held == 10
    budget.release(10)
    budget.hold(6)
    assert budget.held == 6


@given(st.lists(st.integers(0, 12), max_size=30))
def test_it_never_holds_more_than_it_may(sizes: list[int]) -> None:
    budget = BodyBudget(each=10, total=25)
    held = 0
    for size in sizes:
        try:
            budget.hold(size)
        except Refused:
            continue
        held += size
        assert budget.held == held <= 25
    budget.release(held)
    assert budget.held == 0


class Sender:
    """A client that sends so many bytes each time its body is asked for, after so many seconds of a loop's own time."""

    def __init__(self, *parts: int, every: float = 0.0, whole: bool = True) -> None:
        self._parts = list(parts)
        self._every = every
        self._whole = whole

    async def receive(self) -> Message:
        await asyncio.sleep(self._every)
        if not self._parts:
            return {"type": "http.disconnect"}
        part = b"x" * self._parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(self._parts) or not self._whole}


class QuickLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while something is to do, and jumps to the next timer where nothing is."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]  # there is no other way to its clock
            self._now = max(self._now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def read(sender: Sender, budget: BodyBudget) -> tuple[float, bytes | Refused]:
    """Return how long it took to read a body, and what came of it."""

    async def main() -> tuple[float, bytes | Refused]:
        loop = asyncio.get_running_loop()
        try:
            body: bytes | Refused = await budget.read(sender.receive, lambda _: None)
        except Refused as refused:
            body = refused
        return loop.time(), body

    with asyncio.Runner(loop_factory=QuickLoop) as runner:
        return runner.run(main())


def test_a_body_may_take_its_time_while_it_keeps_its_pace() -> None:
    budget = BodyBudget(patience=10, rate=100)
    assert read(Sender(5, 5, 5), budget)[1] == b"x" * 15
    assert read(Sender(*[1] * 10, every=0.9), budget)[1] == b"x" * 10
    seconds, body = read(Sender(*[200] * 60, every=1.9), budget)
    assert body == b"x" * 12_000
    assert seconds == pytest.approx(114)


@pytest.mark.parametrize(
    ("sender", "seconds"),
    [
        (Sender(*[1] * 100, every=1), 10.1),
        (Sender(1, 1, every=100), 100),  # what comes first is the server's to wait for
        (Sender(*[500] * 9, *[1] * 100, every=1), 55.5),
        (Sender(*[90] * 1000, every=1), 91),
    ],
)
def test_one_that_trickles_in_is_refused(sender: Sender, seconds: float) -> None:
    taken, refused = read(sender, BodyBudget(patience=10, rate=100))
    assert isinstance(refused, Refused)
    assert (refused.status, refused.code) == (408, "body_too_slow")
    assert taken == pytest.approx(seconds, abs=0.1)


def test_each_part_is_accounted_for_before_the_next_one_is_read() -> None:
    budget, held = BodyBudget(), list[int]()
    assert asyncio.run(budget.read(Sender(3, 0, 4).receive, held.append)) == b"x" * 7
    assert held == [3, 3, 7]
    with pytest.raises(Refused):
        asyncio.run(budget.read(Sender(*[2**20] * 65).receive, functools.partial(budget.hold, already=0)))


def test_a_client_that_leaves_has_sent_nothing() -> None:
    with pytest.raises(ClientGone):
        asyncio.run(BodyBudget().read(Sender(3, whole=False).receive, lambda _: None))


def test_it_shows_what_it_holds() -> None:
    budget = BodyBudget(each=10, total=25)
    budget.hold(3)
    assert repr(budget) == "<BodyBudget 3 of 25 bytes held, 10 each>"
