"""proxy/kernel/body_budget.py."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel.asgi import Message
from proxy.kernel.body_budget import BodyBounds, BodyBudget, Holding, SharedBodyBudget
from proxy.kernel.errors import ClientGone, Refused
from proxy.kernel.shared_numbers import SharedNumbers, make_shared
from tests.support.options import body_budget


def body_of(budget: BodyBudget, caller: str, size: int = 0) -> Holding:
    """Return a body of `size` bytes that is in."""
    body = Holding(budget)
    body.charge(caller)
    body.take(size)
    return body


def refused(act: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        act()
    if caught.value.status != 413:
        assert caught.value.headers == {"retry-after": "1"}
    return caught.value.status, caught.value.code


def test_one_body_has_a_bound() -> None:
    budget = body_budget(each=10, total=100)
    body = body_of(budget, "a", 6)
    body.take(4)
    assert refused(lambda: body.take(1)) == (413, "request_too_large")
    assert refused(lambda: Holding(budget).announce(11)) == (413, "request_too_large")
    assert (budget.held, body.size) == (10, 10)


def test_what_is_announced_is_not_held() -> None:
    budget = body_budget(each=10, total=40)
    for _ in range(100):
        Holding(budget).announce(10)
    assert budget.held == 0


def test_one_caller_has_a_share_and_others_do_not_notice() -> None:
    budget = body_budget(each=10, total=100, share=0.25)
    bodies = [body_of(budget, "guest", 10), body_of(budget, "guest", 10), body_of(budget, "guest", 5)]
    assert refused(lambda: body_of(budget, "guest", 1)) == (429, "body_share_exceeded")
    late = Holding(budget)
    late.charge("guest")
    assert refused(lambda: late.announce(1)) == (429, "body_share_exceeded")
    body_of(budget, "alice", 10)
    bodies[0].release()
    bodies.append(body_of(budget, "guest", 6))
    assert (budget.held, budget.callers, budget.largest) == (31, 2, 21)
    assert budget.refused == {"body_share_exceeded": 2}


@pytest.mark.parametrize("callers", [4, 20, 60])
def test_who_comes_last_finds_room_however_many_take_all_they_can(callers: int) -> None:
    budget = body_budget(each=2**20, total=512 * 2**20)
    for number in range(callers):
        try:
            while True:
                body_of(budget, f"guest {number}", 2**13)
        except Refused:
            pass
    if callers <= 20:
        body_of(budget, "alice", 100 * 2**10)
    assert budget.held < budget.total


def test_a_share_has_room_for_one_body_where_it_is_left_out() -> None:
    budget = body_budget(each=60, total=60)
    assert body_of(budget, "alice", 60).size == 60
    assert refused(lambda: body_of(budget, "bob", 1)) == (503, "body_memory_exhausted")


def test_a_body_counts_for_its_caller_once_he_is_known() -> None:
    budget = body_budget(each=10, total=40)
    body = body_of(budget, "@192.0.2.1", 6)
    body.charge("=alice")
    body.take(2)
    assert (budget.held, budget.of("@192.0.2.1"), budget.of("=alice")) == (8, 0, 8)
    body.charge("=alice")
    body.release()
    body.release()
    assert (budget.held, budget.callers) == (0, 0)
    assert refused(lambda: body.take(1)) == (413, "request_too_large")


CALLERS = st.sampled_from(["alice", "bob", "carol"])
STEPS = st.lists(st.tuples(CALLERS, st.integers(0, 12), st.booleans()), max_size=40)


@given(STEPS, st.sampled_from([0.1, 0.25, 0.5, 1.0]))
def test_it_never_holds_more_than_it_may(steps: list[tuple[str, int, bool]], share: float) -> None:
    budget, bodies = body_budget(each=10, total=60, share=share), list[Holding]()
    for caller, size, ends in steps:
        if ends and bodies:
            bodies.pop(0).release()
        try:
            bodies.append(body_of(budget, caller, size))
        except Refused:
            assert size > 10 or budget.of(caller) + size > max(share, 1 / 6) * (60 - budget.held + budget.of(caller))
        assert budget.held == sum(body.size for body in bodies) <= 60
        assert budget.largest <= max(60 * share, 10)
    for body in bodies:
        body.release()
    assert (budget.held, budget.callers) == (0, 0)


# How a body comes in


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
        # There is no other way to its clock. A cancelled timer may still be the first of them.
        timers = [] if self._ready else [t for t in self._scheduled if not t.cancelled()]  # type: ignore[attr-defined]
        if timers:
            self._now = max(self._now, min(timer.when() for timer in timers))
        super()._run_once()  # type: ignore[misc]


async def outcome(sender: "Sender | Slow", body: Holding) -> bytes | Refused:
    try:
        return await body.read(sender.receive)
    except Refused as refused:
        return refused


def read(sender: Sender, budget: BodyBudget) -> tuple[float, bytes | Refused]:
    """Return how long it took to read a body, and what came of it."""

    async def main() -> tuple[float, bytes | Refused]:
        body = await outcome(sender, Holding(budget))
        return asyncio.get_running_loop().time(), body

    with asyncio.Runner(loop_factory=QuickLoop) as runner:
        return runner.run(main())


def test_a_body_may_take_its_time_while_it_keeps_its_pace() -> None:
    budget = body_budget(patience=10, rate=100)
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
        (Sender(*[500] * 9, *[1] * 100, every=1), 19.1),  # what was early does not excuse being late
        (Sender(*[90] * 1000, every=1), 91),
    ],
)
def test_one_that_trickles_in_is_refused(sender: Sender, seconds: float) -> None:
    taken, refused = read(sender, body_budget(patience=10, rate=100))
    assert isinstance(refused, Refused)
    assert (refused.status, refused.code) == (408, "body_too_slow")
    assert taken == pytest.approx(seconds, abs=0.1)


def test_each_part_is_accounted_for_before_the_next_one_is_read() -> None:
    budget, held = body_budget(), list[int]()
    body, sender = Holding(budget), Sender(3, 0, 4)

    async def receive() -> Message:
        held.append(budget.held)
        return await sender.receive()

    assert asyncio.run(body.read(receive)) == b"x" * 7
    assert (held, body.size) == ([0, 3, 3], 7)
    with pytest.raises(Refused):
        asyncio.run(Holding(budget).read(Sender(*[2**20] * 65).receive))


class Slow:
    """A client that sends what the test says, when it says so."""

    def __init__(self) -> None:
        self.parts: asyncio.Queue[Message] = asyncio.Queue()
        self.heard = asyncio.Event()
        """Set when all of it was taken and more is waited for."""

    async def receive(self) -> Message:
        if self.parts.empty():
            self.heard.set()
        return await self.parts.get()

    def send(self, size: int, *, more: bool = True) -> None:
        self.parts.put_nowait({"type": "http.request", "body": b"x" * size, "more_body": more})


async def arriving(budget: BodyBudget, caller: str, *sizes: int) -> tuple[Slow, "asyncio.Task[bytes | Refused]"]:
    """Begin to read bodies of which so much has come."""
    client, body = Slow(), Holding(budget)
    body.charge(caller)
    for size in sizes:
        client.send(size)
    task = asyncio.create_task(outcome(client, body))
    await client.heard.wait()
    return client, task


async def test_of_who_holds_most_the_largest_arriving_body_gives_way() -> None:
    budget = body_budget(each=50, total=100, share=0.5)
    _, small = await arriving(budget, "guest", 5, 5)
    _, large = await arriving(budget, "guest", 20, 20)
    client, bob = await arriving(budget, "bob", 20)
    assert not large.done()
    body_of(budget, "alice", 18)
    given_up = await large
    assert isinstance(given_up, Refused)
    assert (given_up.status, given_up.code, given_up.headers) == (503, "body_memory_exhausted", {"retry-after": "1"})
    client.send(1, more=False)
    assert await bob == b"x" * 21
    assert (budget.held, small.done()) == (10 + 21 + 18, False)
    small.cancel()


async def test_a_body_that_is_in_gives_way_to_nobody() -> None:
    budget = body_budget(each=50, total=100, share=0.5)
    body_of(budget, "guest", 50)
    body_of(budget, "alice", 25)
    assert refused(lambda: body_of(budget, "bob", 13)) == (503, "body_memory_exhausted")
    assert budget.held == 75


async def test_nobody_gives_way_to_who_holds_more_or_has_only_announced() -> None:
    budget = body_budget(each=50, total=100, share=0.5)
    _, guest = await arriving(budget, "guest", 24, 16)
    mallory = Holding(budget)
    mallory.charge("mallory")
    mallory.announce(39)
    assert refused(lambda: mallory.take(41)) == (503, "body_memory_exhausted")
    assert (guest.done(), budget.held) == (False, 40)
    guest.cancel()


async def test_one_that_gives_way_with_a_part_in_hand_ends_the_same() -> None:
    budget = body_budget(each=50, total=100, share=0.5)
    client, guest = await arriving(budget, "guest", 24, 24)
    client.send(1)
    body_of(budget, "alice", 30)
    given_up = await guest
    assert isinstance(given_up, Refused)
    assert (given_up.code, budget.held) == ("body_memory_exhausted", 30)


async def test_what_cannot_come_in_holds_nothing_so_that_others_of_its_caller_can() -> None:
    budget = body_budget(each=40, total=100, share=0.4)
    clients = [await arriving(budget, "alice", 10, 10) for _ in range(2)]
    for client, _ in clients:
        client.send(10)
        client.send(10, more=False)
    results = await asyncio.gather(*(task for _, task in clients))
    assert sorted(isinstance(result, Refused) for result in results) == [False, True]
    assert budget.held == 40


def test_a_client_that_leaves_has_sent_nothing() -> None:
    with pytest.raises(ClientGone):
        asyncio.run(Holding(body_budget()).read(Sender(3, whole=False).receive))


def test_it_shows_what_it_holds() -> None:
    budget = body_budget(each=10, total=25)
    body = body_of(budget, "=alice", 3)
    assert repr(budget) == "<BodyBudget 3 of 25 bytes held by 1 callers, 10 each>"
    assert repr(body) == "<Holding of 3 bytes for =alice>"


def test_processes_share_the_total() -> None:
    fd = make_shared(2, 2)
    bounds = BodyBounds(each=40, total=100, share=1.0, patience=1.0, rate=1)
    one, two = (SharedBodyBudget(SharedNumbers(fd, rows=2, columns=2, row=row), 1, bounds) for row in range(2))
    body_of(one, "a", 40)
    gone = body_of(one, "a", 40)
    assert two.elsewhere() == 80
    body_of(two, "b", 10)
    assert refused(lambda: body_of(two, "c", 20)) == (503, "body_memory_exhausted")
    gone.release()
    body_of(two, "c", 20)
    assert (one.elsewhere(), two.elsewhere()) == (30, 40)
