"""Who goes next: nobody starves, shares follow weights, nobody is lost, and ten thousand waiters cost little."""

import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import count
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.queue.fair_queue import FIRST, PATIENCE, Ahead, FairQueue, Verdict
from proxy.queue.fair_queue_parts import Claim, Entry


def claim(tenant: str = "a", lane: Hashable = "x", cost: int = 10, weight: float = 1, priority: float = 0) -> Claim:
    return Claim(tenant, lane, cost, weight, priority)


def filled(*claims: Claim) -> FairQueue[Claim]:
    queue: FairQueue[Claim] = FairQueue()
    for one in claims:
        queue.push(one, one)
    return queue


class Slots:
    """So many slots, for some lanes or all; notes who got them."""

    def __init__(self, count: int, lanes: Iterable[Hashable] | None = None) -> None:
        self.count = count
        self.lanes = None if lanes is None else set(lanes)
        self.taken: list[Any] = []
        self.offers = 0

    def __call__(self, entry: Entry[Any], waiting: int) -> Verdict:
        assert waiting > 0
        self.offers += 1
        if not self.count or (self.lanes is not None and entry.claim.lane not in self.lanes):
            return "full"
        self.count -= 1
        self.taken.append(entry.item)
        return "taken"


def served(queue: FairQueue[Any], count: int, lanes: Iterable[Hashable] | None = None) -> list[Any]:
    """Return who goes where `count` slots come free at once."""
    slots = Slots(count, lanes)
    queue.drain(slots)
    return slots.taken


def backlogged(claims: Sequence[Claim], rounds: int, free: Callable[[int], Sequence[set[str]]]) -> Counter[Claim]:
    """Keep everybody waiting, and return the tokens each was given; `free` says which lanes' slots a round has."""
    queue = filled(*claims)
    given: Counter[Claim] = Counter()
    for number in range(rounds):
        for lanes in free(number):
            for one in served(queue, 1, lanes):
                given[one] += one.cost
                queue.push(one, one)
    return given


# Shares


@pytest.mark.parametrize(
    ("claims", "shares"),
    [
        ([claim("a"), claim("b")], [1, 1]),
        ([claim("a"), claim("b", weight=4)], [1, 4]),
        ([claim("a", weight=0.5), claim("b"), claim("c", weight=1.5)], [1, 2, 3]),
        ([claim("a", cost=100), claim("b", cost=7)], [1, 1]),
        ([claim("a", cost=300, weight=3), claim("b", cost=10)], [3, 1]),
        ([claim("a", "x"), claim("b", "y")], [1, 1]),
        ([claim("a", "x"), claim("b", "y", weight=4)], [1, 4]),
        # Many models bring nobody more.
        ([claim("a", "x"), claim("b", "x"), claim("b", "y")], [2, 1, 1]),
        ([claim("a", "x"), *(claim("b", lane) for lane in "xyzvw")], [5, 1, 1, 1, 1, 1]),
    ],
)
def test_tokens_are_shared_by_weight(claims: list[Claim], shares: list[int]) -> None:
    given = backlogged(claims, 3000, lambda _: [set("xyzvw")])
    unit = sum(given.values()) / sum(shares)
    assert [given[one] / unit for one in claims] == pytest.approx(shares, rel=0.05)


def test_weights_hold_in_a_slow_lane_beside_a_fast_one() -> None:
    """`x` gets a slot once in ten rounds, `y` three in each."""
    claims = [claim("a", "x"), claim("b", "x", weight=4), claim("c", "y"), claim("d", "y", weight=2)]
    given = backlogged(claims, 2000, lambda number: [{"y"}] * 3 + ([{"x"}] if number % 10 == 0 else []))
    a, b, c, d = (given[one] for one in claims)
    assert b / a == pytest.approx(4, rel=0.05)
    assert d / c == pytest.approx(2, rel=0.05)


def test_who_had_to_wait_for_a_lane_has_no_claim_to_all_that_the_others_got_meanwhile() -> None:
    queue = filled(*[claim("a", "x")] * 100, *[claim("b", "y")] * 200)
    served(queue, 100, {"y"})
    both = Counter(one.tenant for one in served(queue, 40))
    assert both == {"a": 20, "b": 20} or abs(both["a"] - both["b"]) <= 2


def test_the_turn_of_who_comes_back_is_now_and_a_debt_is_kept() -> None:
    queue = filled(*[claim("a")] * 50)
    served(queue, 40)
    for _ in range(20):
        queue.push(claim("b"), claim("b"))
    assert Counter(one.tenant for one in served(queue, 10)) == {"a": 5, "b": 5}

    queue = filled(*[claim("a")] * 50)
    one = claim("b", cost=100)
    queue.push(one, one)
    assert one in served(queue, 2)
    queue.push(one, one)
    assert one not in served(queue, 9)
    assert one in served(queue, 3)


def test_what_went_without_waiting_is_paid_for() -> None:
    queue: FairQueue[Claim] = FairQueue()
    queue.charge(claim("b"))
    for _ in range(5):
        queue.charge(claim("a"))
    for tenant in "aaabbb":
        queue.push(claim(tenant), claim(tenant))
    assert [one.tenant for one in served(queue, 4)] == ["b", "a", "b", "a"]


@pytest.mark.parametrize(("took", "shares"), [(10, [1, 1]), (40, [1, 4]), (1, [10, 1]), (0, [20, 1])])
def test_what_the_latest_requests_took_is_what_the_next_ones_pay(took: int, shares: list[int]) -> None:
    """Shares are counted in requests here: `a` and `b` are both expected to take ten tokens each, and `b` does."""
    queue: FairQueue[Claim] = FairQueue()
    for tenant, tokens in (("a", took), ("b", 10)):
        queue.charge(claim(tenant))
        for _ in range(3):
            queue.learn(claim(tenant), tokens)
    for one in (claim("a"), claim("b")):
        for _ in range(1200):
            queue.push(one, one)
    given = Counter(one.tenant for one in served(queue, 1100))
    assert given["a"] / given["b"] == pytest.approx(shares[0] / shares[1], rel=0.05)


def test_of_a_new_tenant_what_the_others_took_is_expected() -> None:
    queue: FairQueue[Claim] = FairQueue()
    queue.charge(claim("a", cost=100))  # pays all of it
    queue.learn(claim("a", cost=100), 10)
    for one in (claim("b", cost=100), claim("a", cost=100)):
        for _ in range(30):
            queue.push(one, one)
    assert "".join(one.tenant for one in served(queue, 16)) == "bbbbbbbbbb" + "bababa"


# Order


def test_the_requests_of_a_flow_go_in_the_order_they_came() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(30):
        queue.push(number, claim("ab"[number % 2]))
    order = served(queue, 30)
    assert [number for number in order if number % 2] == list(range(1, 30, 2))
    assert [number for number in order if not number % 2] == list(range(0, 30, 2))


def test_the_higher_priority_goes_first_and_the_lower_does_not_starve() -> None:
    high, normal, low = (claim(priority=priority) for priority in (1, 0, -1))
    assert served(filled(low, normal, high), 3) == [high, normal, low]
    given = backlogged([high, normal, low], 1200, lambda _: [{"x"}])
    assert [given[one] / 12000 for one in (high, normal, low)] == pytest.approx(
        [PATIENCE / (PATIENCE + 2), 1 / (PATIENCE + 2), 1 / (PATIENCE + 2)], rel=0.01
    )


def test_priorities_are_fair_among_themselves() -> None:
    claims = [claim(tenant, priority=priority, weight=ord(tenant) - 96) for tenant in "ab" for priority in (0, 1)]
    given = backlogged(claims, 3300, lambda _: [{"x"}])
    assert given[claims[2]] / given[claims[0]] == pytest.approx(2, rel=0.05)
    assert given[claims[3]] / given[claims[1]] == pytest.approx(2, rel=0.05)


def test_who_has_waited_already_goes_before_everybody() -> None:
    again, high = claim("a", priority=FIRST, cost=0), claim("b", priority=100)
    assert served(filled(high, again), 2) == [again, high]


def test_one_lane_that_is_full_blocks_nobody() -> None:
    queue = filled(*[claim("a", "full")] * 3, claim("a", "x"), claim("b", "x"))
    slots = Slots(9, {"x"})
    queue.drain(slots)
    assert [one.lane for one in slots.taken] == ["x", "x"]
    assert slots.offers == 3  # a lane is asked for once


def test_one_lane_can_be_looked_at_alone() -> None:
    queue = filled(*[claim("a", "x")] * 2, *[claim("a", "y")] * 2)
    slots = Slots(3)
    queue.drain(slots, "y")
    assert [one.lane for one in slots.taken] == ["y", "y"]
    assert slots.offers == 2


def test_who_is_gone_is_passed_over_and_pays_nothing() -> None:
    queue = filled(*[claim("a"), claim("b")] * 3)
    verdicts: list[Verdict] = ["gone", "taken", "taken", "full"]
    order: list[str] = []

    def offer(entry: Entry[Claim], _: int) -> Verdict:
        verdict = verdicts.pop(0)
        if verdict == "taken":
            order.append(entry.claim.tenant)
        return verdict

    queue.drain(offer)
    assert order == ["a", "b"]
    assert queue.by_tenant() == {"a": 1, "b": 2}


# What to expect


@pytest.mark.parametrize(
    ("waiting", "asks", "ahead"),
    [
        ([], claim("a"), Ahead(0, 0)),
        ([claim("a", "other")] * 5, claim("a"), Ahead(0, 0)),
        ([claim("a")] * 5, claim("a"), Ahead(50, 5)),
        ([claim("a")] * 500, claim("b"), Ahead(10, 1)),
        ([claim(str(number)) for number in range(20)], claim("b"), Ahead(200, 20)),
        ([claim("a", cost=1000), claim("b")], claim("c"), Ahead(20, 0)),
        ([claim("a")] * 8 + [claim("b")] * 2, claim("b"), Ahead(50, 5)),
        ([claim("a", weight=4)] * 80, claim("b"), Ahead(40, 4)),
        ([claim("a")] * 80, claim("b", weight=4), Ahead(2.5, 0)),
        ([claim("a")] * 7 + [claim("b", priority=1)] * 3, claim("a"), Ahead(100, 10)),
        ([claim("a")] * 7 + [claim("b", priority=1)] * 3, claim("c", priority=1), Ahead(10, 1)),
        ([claim("a")] * 7 + [claim("b", priority=1)] * 3, claim("a", priority=1), Ahead(20, 2)),
        ([claim("a")] * 7, claim("a", priority=1), Ahead(0, 0)),
    ],
)
def test_what_goes_before_a_new_request(waiting: list[Claim], asks: Claim, ahead: Ahead) -> None:
    assert filled(*waiting).ahead(asks) == pytest.approx(ahead)


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 1000)), min_size=1, max_size=60), st.integers(1, 1000)
)
def test_what_is_said_to_go_before_is_about_what_does(waiting: list[tuple[str, int]], cost: int) -> None:
    """To one request of each other tenant, and to what lies within a factor of two of it."""
    claims = [claim(tenant, cost=asked) for tenant, asked in waiting]
    queue = filled(*claims)
    new = claim("a", cost=cost)
    said = queue.ahead(new).tokens
    queue.push(new, new)
    order = served(queue, len(claims) + 1)
    true = sum(one.cost for one in order[: next(n for n, one in enumerate(order) if one is new)])
    largest = max(one.cost for one in claims)
    assert true <= said * 2 + 6 * max(largest, cost)
    assert said <= true * 2 + 6 * max(largest, cost)


@pytest.mark.parametrize(
    ("waiting", "asks", "gives_way"),
    [
        ([], claim("a"), None),
        ([claim("a")] * 3, claim("a"), None),
        ([claim("a")] * 3, claim("b"), 2),
        ([claim("a")] * 2 + [claim("b")], claim("b"), None),
        ([claim("a"), claim("b"), claim("a", "other"), claim("b")], claim("c"), 2),
        ([claim("a", weight=4)] * 4 + [claim("b")] * 2, claim("c"), 5),
        ([claim("a")] * 4, claim("b", weight=0.25), None),
    ],
)
def test_who_gives_way_in_a_full_queue(waiting: list[Claim], asks: Claim, gives_way: int | None) -> None:
    queue: FairQueue[int] = FairQueue()
    for number, one in enumerate(waiting):
        queue.push(number, one)
    found = queue.crowding_out(asks)
    assert (None if found is None else found.item) == gives_way


def test_the_largest_crowd_shrinks() -> None:
    queue: FairQueue[int] = FairQueue()
    entries = [queue.push(number, claim("a")) for number in range(10)]
    for number in range(3):
        queue.push(10 + number, claim("b"))
    for entry in entries[:8]:
        queue.remove(entry)
    found = queue.crowding_out(claim("c"))
    assert found is not None
    assert found.item == 12


def test_the_oldest() -> None:
    queue = filled()
    assert queue.oldest() is None
    first, second = claim("a"), claim("b")
    entry = queue.push(first, first)
    queue.push(second, second)
    assert queue.oldest() is entry
    queue.remove(entry)
    assert not queue.remove(entry)
    found = queue.oldest()
    assert found is not None
    assert found.item is second


# Cost


class Compared:
    """How often places in a queue were compared."""

    times = 0


class Number(int):
    """The number of a waiter, which decides between equal turns."""

    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return int(self) == other

    def __lt__(self, other: int) -> bool:
        Compared.times += 1
        return int(self) < int(other)


class Weight(float):
    """A weight; a turn that was moved on by it is one too."""

    __hash__ = float.__hash__

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return float(self) == other

    def __lt__(self, other: float) -> bool:
        Compared.times += 1
        return float(self) < float(other)

    def __gt__(self, other: float) -> bool:
        Compared.times += 1
        return float(self) > float(other)

    def __add__(self, other: float) -> "Weight":
        return Weight(float(self) + float(other))

    __radd__ = __add__

    def __truediv__(self, other: float) -> "Weight":
        return Weight(float(self) / float(other))

    def __rtruediv__(self, other: float) -> "Weight":
        return Weight(float(other) / float(self))


def steps(call: Callable[[], object]) -> int:
    """Count the functions called, Python's and C's, and the comparisons made of places in a queue."""
    calls = 0

    def called(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    Compared.times = 0
    sys.setprofile(called)
    try:
        call()
    finally:
        sys.setprofile(None)
    return calls + Compared.times


def costs(waiters: int) -> dict[str, int]:
    """Return the steps of the dearest of fifty calls of each kind while so many wait, two of each tenant."""
    queue: FairQueue[int] = FairQueue()
    queue._numbers = map(Number, count())
    entries = []
    for number in range(waiters):
        entries.append(queue.push(number, claim(str(number % (waiters // 2)), cost=1 + number % 7, weight=Weight(1))))
    new = claim("new", weight=Weight(1))
    worst: Counter[str] = Counter()
    for number in range(50):
        calls: dict[str, Callable[[], object]] = {
            "drain": lambda: queue.drain(Slots(1)),
            "push": lambda: entries.append(queue.push(0, new)),
            "ahead": lambda: queue.ahead(new),
            "crowding_out": lambda: queue.crowding_out(new),
            "remove": lambda number=number: queue.remove(entries[waiters // 2 + number]),  # type: ignore[misc]
        }
        for name, call in calls.items():
            worst[name] = max(worst[name], steps(call))
    return worst


def test_ten_thousand_waiters_cost_what_a_hundred_do_but_for_a_logarithm() -> None:
    few, many = costs(100), costs(10_000)
    for name in few:
        # log2(10000) / log2(100) = 2
        assert many[name] <= 2 * few[name] + 20, (name, few, many)


def test_a_lane_for_every_waiter_costs_those_who_come_and_leave_nothing() -> None:
    """A client that asks for another ``num_ctx`` each time has as many lanes as requests."""

    def costs(waiters: int) -> list[int]:
        queue = filled(*[claim("a", number) for number in range(waiters)])
        new, entries = claim("a", "new"), []
        calls: list[Callable[[], object]] = [
            lambda: entries.append(queue.push(new, new)),
            lambda: queue.ahead(new),
            lambda: queue.crowding_out(claim("b")),
            lambda: queue.drain(Slots(1), "new"),
            lambda: entries.append(queue.push(new, new)),
            lambda: queue.remove(entries[1]),
        ]
        return [steps(call) for call in calls]

    few, many = costs(100), costs(10_000)
    assert all(dear <= 2 * cheap + 20 for cheap, dear in zip(few, many, strict=True)), (few, many)


def test_when_all_slots_are_taken_nobody_else_is_asked() -> None:
    queue = filled(*[claim("a", number) for number in range(100)])
    offered = []

    def offer(entry: Entry[Claim], waiting: int) -> Verdict:
        offered.append(entry.claim.lane)
        return "taken" if len(offered) == 1 else "over"

    queue.drain(offer)
    assert offered == [0, 1]
    assert len(queue) == 99


def test_all_that_leave_cost_as_much_as_they_are() -> None:
    """Who leaves from behind a full lane leaves nothing behind."""
    queue: FairQueue[int] = FairQueue()
    queue.push(0, claim("head"))
    queue.drain(Slots(0))
    for number in range(20_000):
        queue.remove(queue.push(number, claim(f"t{number}", f"lane{number % 3000}")))
    assert (len(queue), queue.by_tenant()) == (1, {"head": 1})
    kept = sum(len(lane_queue.flows) + len(lane_queue._heap) for lane_queue in queue._queues.values())
    assert len(queue._queues) < 3000
    assert len(queue._crowds._heap) < 3000
    assert kept < 20_000
    assert not queue._lanes.keys() - {"x"}


# The people of a tenant


def of(person: str | None, tenant: str = "webui", cost: int = 10) -> Claim:
    return Claim(tenant, "x", cost, person=person)


def test_people_of_one_tenant_take_turns() -> None:
    queue = filled(*[of("ann")] * 20, of("bob"), of("bob"), of(None))
    assert [one.person for one in served(queue, 6)] == ["ann", "bob", None, "ann", "bob", "ann"]


def test_turns_of_people_are_counted_in_tokens() -> None:
    queue = filled(*[of("ann", cost=30)] * 10, *[of("bob")] * 30)
    assert Counter(one.person for one in served(queue, 16)) == {"ann": 4, "bob": 12}


def test_a_person_that_comes_again_and_again_does_not_pass_one_that_waits() -> None:
    queue = filled(*[of("bob")] * 20, of("ann"))
    order = []
    for _ in range(10):
        [one] = served(queue, 1)
        order.append(one.person)
        if one.person == "ann":
            queue.push(one, one)
    assert Counter(order) == {"ann": 5, "bob": 5}


def test_a_tenant_gets_no_more_for_its_many_people() -> None:
    queue = filled(*(of(f"p{number}") for number in range(50)), *[of(None, "alice")] * 50)
    assert Counter(one.tenant for one in served(queue, 20)) == {"webui": 10, "alice": 10}


def test_in_a_full_queue_the_person_with_the_most_gives_way() -> None:
    queue = filled(*[of("ann")] * 5, of("bob"), of(None, "alice"))
    gives_way = queue.crowding_out(of("cyd"))
    assert gives_way is not None
    assert (gives_way.claim.person, gives_way.number) == ("ann", 4)
    assert queue.crowding_out(of("ann")) is None
    gives_way = queue.crowding_out(of(None, "alice"))
    assert gives_way is not None
    assert (gives_way.claim.person, gives_way.number) == ("ann", 4)
    assert filled(of("ann"), of("bob")).crowding_out(of("cyd")) is None


def test_a_newcomer_hears_of_what_goes_before_it() -> None:
    queue = filled(*[of("ann")] * 20, of("bob"))
    assert queue.ahead(of("cyd")).requests == 2
    assert queue.ahead(of("bob")).requests == 3
    assert queue.ahead(of("ann")).requests == 21


def test_invented_people_are_forgotten() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.push(0, of("ann"))
    for number in range(1, 20_000):
        queue.charge(of(f"p{number}", cost=number))
        queue.remove(queue.push(number, of(f"q{number}")))
    [flow] = next(iter(queue._queues.values())).flows.values()
    kept = len(flow.people._turns) + len(flow.people._heap) + len(flow.people._costs) + len(flow.people._waiting)
    assert kept < 2000
    assert len(flow.tenant.people) == 1


# Whatever happens


class Anything(RuleBasedStateMachine):
    """Any order of coming, leaving and being served, beside a plain list of who waits."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue()
        self.waiting: dict[int, Entry[int]] = {}
        self.number = 0
        self.passed: Counter[int] = Counter()

    @rule(
        tenant=st.sampled_from("abcd"),
        lane=st.sampled_from("xyz"),
        cost=st.integers(0, 5000),
        weight=st.sampled_from([0.1, 1, 4]),
        priority=st.sampled_from([-1, 0, 5, FIRST]),
        person=st.sampled_from([None, "p", "q"]),
    )
    def push(self, tenant: str, lane: str, cost: int, weight: float, priority: float, person: str | None) -> None:
        self.number += 1
        self.waiting[self.number] = self.queue.push(self.number, Claim(tenant, lane, cost, weight, priority, person))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.waiting)))
        entry = self.waiting.pop(number)
        assert self.queue.remove(entry)
        assert not self.queue.remove(entry)

    @rule(count=st.integers(0, 5), lanes=st.sets(st.sampled_from("xyz")), gone=st.sets(st.integers(1, 5)))
    def drain(self, count: int, lanes: set[str], gone: set[int]) -> None:
        slots = Slots(count, lanes)

        def offer(entry: Entry[int], waiting: int) -> Verdict:
            assert waiting == self.queue.in_lane(entry.claim.lane)
            assert self.waiting[entry.item] is entry
            flow = [
                number
                for number, other in self.waiting.items()
                if other.claim.tenant == entry.claim.tenant
                and other.claim.lane == entry.claim.lane
                and other.claim.priority == entry.claim.priority
                and other.claim.person == entry.claim.person
            ]
            assert entry.item == min(flow)
            verdict = "gone" if entry.item in gone else slots(entry, waiting)
            if verdict != "full":
                del self.waiting[entry.item]
            return verdict

        self.queue.drain(offer)
        assert not slots.count or not any(entry.claim.lane in lanes for entry in self.waiting.values())

    @rule(
        tenant=st.sampled_from("abcd"),
        lane=st.sampled_from("xyz"),
        cost=st.integers(0, 5000),
        more=st.integers(-99, 99),
    )
    def run(self, tenant: str, lane: str, cost: int, more: int) -> None:
        self.queue.charge(claim(tenant, lane, cost))
        self.queue.learn(claim(tenant, lane, cost), max(0, cost + more))

    @rule(tenant=st.sampled_from("abcd"), lane=st.sampled_from("xyz"), priority=st.sampled_from([0, 5]))
    def look(self, tenant: str, lane: str, priority: float) -> None:
        ahead = self.queue.ahead(claim(tenant, lane, priority=priority))
        assert 0 <= ahead.requests <= self.queue.in_lane(lane)
        gives_way = self.queue.crowding_out(claim(tenant, lane))
        if gives_way is not None:
            assert self.waiting[gives_way.item] is gives_way
            assert (gives_way.claim.tenant, gives_way.claim.person) != (tenant, None)

    @invariant()
    def everybody_is_there_once(self) -> None:
        assert len(self.queue) == len(self.waiting)
        assert self.queue.by_tenant() == Counter(entry.claim.tenant for entry in self.waiting.values())
        for lane in "xyz":
            assert self.queue.in_lane(lane) == sum(entry.claim.lane == lane for entry in self.waiting.values())
        oldest = self.queue.oldest()
        assert (oldest.item if oldest else None) == min(self.waiting, default=None)


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 100), st.sampled_from([-1, 0, 1])), max_size=300),
    st.integers(1, 100),
    st.sampled_from([-1, 0, 1]),
)
def test_nobody_starves(others: list[tuple[str, int, int]], cost: int, priority: int) -> None:
    """However many come without end, whoever waits goes after a bounded number of them."""
    queue: FairQueue[str] = FairQueue()
    stream = [claim(tenant, cost=asked, priority=rank) for tenant, asked, rank in others] or [claim("b")]
    for one in stream:
        queue.push("other", one)
    queue.push("me", claim("me", cost=cost, priority=priority))
    # Each of eight tenants and three priorities may have debts of a hundred tokens, in requests of one token each.
    for number in range(3 * (PATIENCE + 2) * 8 * 100):
        one = stream[number % len(stream)]
        queue.push("other", one)
        if served(queue, 1) == ["me"]:
            return
    raise AssertionError("it starved")


# Turns that are decided elsewhere


def test_the_waiter_of_one_tenant_goes_and_pays_though_it_is_not_its_turn() -> None:
    one, other = Claim("a", "m", 10, 1.0, 0, None), Claim("b", "m", 10, 1.0, 0, None)
    queue = filled(one, one, other, other)
    assert {entry.claim.tenant: waiting for entry, waiting in queue.firsts()} == {"a": 2, "b": 2}
    slots = Slots(1)
    queue.offer_to("b", slots)
    assert slots.taken == [other]
    assert served(queue, 2) == [one, one]  # it would have been one of each
    queue.offer_to("nobody", slots)
    queue.offer_to("b", Slots(0))
    assert len(queue) == 1
