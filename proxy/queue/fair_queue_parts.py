"""The parts of the fair queue: tenants, their flows, the queue of each lane and priority, and sums over them."""

from collections import OrderedDict
from collections.abc import Hashable
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final, Generic, NamedTuple, TypeVar

from proxy.queue.crowds import Crowds
from proxy.queue.people import PeoplesTurns, Person

T = TypeVar("T")

REMEMBERED: Final = 512
"""The number of flows without waiters that each queue keeps, and of empty queues that are kept. They hold the debts of
tenants, and the tokens that their requests took."""
FORGOTTEN: Final = 0.1
"""The share of what was learned that each further request displaces."""
LEAST: Final = 0.05
"""Least price of an expected token that was not generated, as the request held a slot for it."""


class Claim(NamedTuple):
    """The claim of a waiting request on a slot.

    Attributes:
        tenant: the tenant, between whom and others the queue is fair.
        lane: key of the slots that the request waits for; all requests of a lane wait for the same slots.
        cost: tokens that the request is expected to take.
        weight: the tenant's share compared to other tenants'; where its requests differ the latest one counts.
        priority: requests of higher priority go first.
        person: the person of the tenant that asks; the tenant's people take turns within what the tenant gets.
    """

    tenant: str
    lane: Hashable
    cost: int
    weight: float = 1.0
    priority: float = 0.0
    person: str | None = None

    @property
    def who(self) -> Hashable:
        """Key of the tenant's person in the lane, by which `proxy.queue.tenant_overload` counts."""
        return self.tenant, self.person, self.lane


class Entry(Generic[T]):
    """One waiter: its item, its claim, its flow, and its number in the order of arrival."""

    __slots__ = ("claim", "flow", "item", "number")

    def __init__(self, item: T, claim: Claim, flow: "Flow[T]", number: int) -> None:
        self.item = item
        self.claim = claim
        self.flow = flow
        self.number = number


def number_of(entry: Entry[T]) -> int:
    """Return the number of `entry` in the order of arrival."""
    return entry.number


class Tenant(Generic[T]):
    """A tenant with waiters.

    Attributes:
        weight: its share compared to other tenants'.
        flows: number of queues that it waits in.
        entries: its waiters in the order of arrival.
        people: the people that they are of, by name.
        crowds: finds the one with the most waiters.
    """

    __slots__ = ("crowds", "entries", "flows", "name", "people", "weight")

    def __init__(self, name: str) -> None:
        self.name = name
        self.weight = 1.0
        self.flows = 0
        self.entries: OrderedDict[Entry[T], None] = OrderedDict()
        self.people: dict[str | None, Person[Entry[T]]] = {}
        self.crowds: Crowds[Person[Entry[T]]] = Crowds()

    def add(self, entry: Entry[T]) -> None:
        """Add a waiter."""
        name = entry.claim.person
        person = self.people.get(name)
        if person is None:
            person = self.people[name] = Person(name)
        self.entries[entry] = person.entries[entry] = None
        self.crowds.note(person, entry.number, len(self.people))

    def remove(self, entry: Entry[T]) -> None:
        """Remove a waiter."""
        person = self.people[entry.claim.person]
        del self.entries[entry], person.entries[entry]
        if not person.entries:
            del self.people[person.name]

    def crowding_out(self, person: str | None = None, *, own: bool = False) -> Entry[T] | None:
        """Return the last waiter of the person with the most waiters.

        Args:
            person: the one whose request would take its place.
            own: whether that one is of this tenant; then None is returned where it would have as many waiters itself.
        """
        largest = self.crowds.largest()
        if largest is None:
            return None
        if own:
            mine = self.people.get(person)
            if largest.name == person or largest.waiting <= (0 if mine is None else mine.waiting) + 1:
                return None
        return next(reversed(largest.entries))

    @property
    def waiting(self) -> int:
        """Number of waiters."""
        return len(self.entries)

    @property
    def crowding(self) -> float:
        """Number of waiters divided by the weight."""
        return len(self.entries) / self.weight

    @property
    def part(self) -> float:
        """Its weight in each queue that it waits in; it must wait in one."""
        return self.weight / self.flows


class Learned:
    """Tokens that requests took, compared to those expected of them. The latest requests count most."""

    __slots__ = ("_expected", "_used")

    def __init__(self) -> None:
        self._expected = 0.0
        self._used = 0.0

    def note(self, expected: int, used: int) -> None:
        """Add one request."""
        self._expected += expected - FORGOTTEN * self._expected
        self._used += used - FORGOTTEN * self._used

    def __bool__(self) -> bool:
        return self._expected > 0

    @property
    def ratio(self) -> float:
        """Tokens taken for each expected one, above 0; 1 before anything was learned."""
        return max(self._used / self._expected, LEAST) if self else 1.0


class Flow(Generic[T]):
    """One tenant in one queue, with its waiters in the order of arrival.

    Attributes:
        turn: its place in the order of the queue's flows; the lowest goes next.
        cost: sum of the tokens that its waiters ask for.
        share: the part of the tenant's weight that counts in this queue, as of the last change; 0 without waiters.
        place: number of its valid entry in the queue's heap; other entries of this flow there are outdated.
        learned: tokens that its own requests took.
        people: the order in which its waiters go.
    """

    __slots__ = ("cost", "entries", "learned", "people", "place", "queue", "share", "tenant", "turn")

    def __init__(self, tenant: Tenant[T], queue: "LaneQueue[T]") -> None:
        self.tenant = tenant
        self.queue = queue
        self.turn = 0.0
        self.cost = 0
        self.share = 0.0
        self.place = -1
        self.learned = Learned()
        self.people: PeoplesTurns[Entry[T]] = PeoplesTurns()
        self.entries: OrderedDict[Entry[T], None] = OrderedDict()

    def add(self, entry: Entry[T]) -> None:
        """Add a waiter."""
        self.entries[entry] = None
        self.people.push(entry.claim.person, entry.claim.cost, entry.number, entry)

    def remove(self, entry: Entry[T]) -> None:
        """Remove a waiter."""
        del self.entries[entry]
        self.people.leave(entry.claim.person, entry.claim.cost, entry.number)

    def first(self) -> Entry[T]:
        """Return the waiter that goes next. There must be one."""
        return self.people.first()


class PriorityLevel:
    """All queues of one priority.

    Attributes:
        clock: turn of the queue that went last.
        passed: number of requests of higher priority that went since one of this priority did.
        waiting: number of waiters.
    """

    __slots__ = ("clock", "passed", "priority", "waiting")

    def __init__(self, priority: float) -> None:
        self.priority = priority
        self.clock = 0.0
        self.passed = 0
        self.waiting = 0


class LaneQueue(Generic[T]):
    """The queue of one lane and one priority.

    Attributes:
        turn: its place in the order of the queues of its priority; the lowest goes next.
        clock: turn of the flow that went last.
        active: number of flows with waiters.
        waiting: number of waiters.
        cost: sum of the tokens that its waiters ask for.
        weight: sum of the shares of its flows.
        sizes: its flows, counted by cost.
        learned: tokens that all its requests took.
        flows: flows by tenant, some of them without waiters.
    """

    __slots__ = ("_heap", "active", "clock", "cost", "flows", "lane", "learned", "level", "sizes", "turn", "waiting",
                 "weight")  # fmt: skip

    def __init__(self, lane: Hashable, level: PriorityLevel) -> None:
        self.lane = lane
        self.level = level
        self.turn = level.clock
        self.clock = 0.0
        self.active = 0
        self.waiting = 0
        self.cost = 0
        self.weight = 0.0
        self.sizes = Sizes()
        self.learned = Learned()
        self.flows: dict[str, Flow[T]] = {}
        # By turn, then by place. Entries are outdated where the place is not the flow's, or its turn has moved on.
        self._heap: list[tuple[float, int, Flow[T]]] = []

    def first(self) -> Flow[T]:
        """Return the flow that goes next. There must be a waiter."""
        while True:
            turn, place, flow = self._heap[0]
            if place != flow.place:
                heappop(self._heap)
            elif turn < flow.turn:
                heapreplace(self._heap, (flow.turn, place, flow))
            else:
                return flow

    def in_turn(self) -> list[Flow[T]]:
        """Return the flows with waiters in the order in which they go."""
        return sorted([flow for flow in self.flows.values() if flow.entries], key=lambda flow: (flow.turn, flow.place))

    def open(self, flow: Flow[T], place: int) -> None:
        """Add `flow`, which has got its first waiter, to the order of turns; `place` is a new number."""
        flow.turn = max(flow.turn, self.clock)
        self.active += 1
        flow.place = place
        heappush(self._heap, (flow.turn, place, flow))

    def close(self, flow: Flow[T]) -> None:
        """Remove `flow`, which has lost its last waiter, from the order of turns."""
        self.weigh(flow, 0.0)
        flow.place = -1
        self.active -= 1
        if not self.active:
            self.weight = 0.0  # sums of fractions drift, so begin anew
            self.sizes = Sizes()
        self.tidy()

    def weigh(self, flow: Flow[T], share: float) -> None:
        """Set the share of `flow`."""
        if share == flow.share:
            return
        self.sizes.remove(flow.cost, flow.share)
        self.weight += share - flow.share
        flow.share = share
        self.sizes.add(flow.cost, share)

    def ask(self, flow: Flow[T], cost: int) -> None:
        """Add `cost` tokens to those that the waiters of `flow` ask for; `cost` may be negative."""
        self.sizes.remove(flow.cost, flow.share)
        self.cost += cost
        flow.cost += cost
        self.sizes.add(flow.cost, flow.share)

    def serve(self, flow: Flow[T], cost: int, weight: float) -> None:
        """Let `flow`, and this queue, pay for a served request.

        Args:
            flow: the flow of its tenant.
            cost: the tokens expected of it. The price is this cost, corrected by what was learned of the tenant's
                requests, or of all requests where the tenant is new.
            weight: the tenant's weight, for a flow without waiters.
        """
        paid = cost * (flow.learned or self.learned).ratio
        self.clock = max(flow.turn, self.clock)
        if not flow.entries:
            flow.turn = self.clock
            self.flows[flow.tenant.name] = self.flows.pop(
                flow.tenant.name
            )  # move it behind the other flows without waiters
            self.tidy()
        flow.turn += paid / (flow.share or weight)
        self.level.clock = max(self.turn, self.level.clock)
        self.turn = self.level.clock + paid / (self.weight or weight)

    def tidy(self) -> None:
        """Drop all but the latest flows without waiters, and outdated entries of the heap."""
        if len(self.flows) > self.active + 2 * REMEMBERED:
            idle = [name for name, flow in self.flows.items() if not flow.entries]
            for name in idle[:-REMEMBERED]:
                del self.flows[name]
        if len(self._heap) > 2 * self.active + REMEMBERED:
            self._heap = [(turn, place, flow) for turn, place, flow in self._heap if place == flow.place]
            heapify(self._heap)


class Sizes:
    """A histogram of flows by cost / share, from which estimates are made without a walk over all flows.

    Each size is a power of two; it holds the sums of the costs and of the shares of its flows.
    """

    __slots__ = ("_costs", "_shares")

    def __init__(self) -> None:
        self._costs = [0] * 64
        self._shares = [0.0] * 64

    def add(self, cost: int, share: float) -> None:
        """Add a flow."""
        if share:
            size = _size(cost / share)
            self._costs[size] += cost
            self._shares[size] += share

    def remove(self, cost: int, share: float) -> None:
        """Remove a flow, with the cost and share that it was added with."""
        if share:
            size = _size(cost / share)
            self._costs[size] -= cost
            self._shares[size] -= share

    def until(self, turn: float) -> float:
        """Return the tokens that all flows get until the clock of the queue has advanced by `turn`."""
        size = _size(turn)
        costs, shares = self._costs, self._shares
        return sum(costs[:size]) + min(costs[size], turn * shares[size]) + turn * sum(shares[size + 1 :])


def _size(tokens: float) -> int:
    return min(63, int(tokens).bit_length())
