"""Who goes next: a fair queue. Pure data, without I/O, tasks or a clock.

Waiters stand in lines. A line is a lane and a priority; the requests of one lane can be served by the same backends, so
that where one of them has to wait all of them have to, and nobody else has.

- **Between the tenants of a line** it is deficit round robin: each is given tokens by its weight. The rounds are numbers
  here instead of walks around a ring. The *turn* of a flow (a tenant in a line) is the round in which it has paid for
  what it was given, by the estimated cost and later by the true one. The lowest turn goes next, and being served moves
  it on by cost / weight. Whoever comes (back) starts at the line's clock, the turn of who went last: absence earns
  nothing, and a debt is kept.
- **Between the lines** it is the same. A line weighs what its tenants weigh in it, and a tenant that waits in several
  lines has a part of its weight in each: asking for many models brings nobody more.
- **Between priorities** the higher goes first, except that a priority which was passed over `PATIENCE` times has one
  request served before those above it. So everybody's turn comes.

With n waiters in k lines everything takes O(log n) steps; to look at all the lines takes another k log k.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from math import inf
from typing import Final, Generic, Literal, NamedTuple, TypeVar

T = TypeVar("T")

PATIENCE: Final = 10
"""Requests of higher priority that go before one of lower priority."""
FIRST: Final = inf
"""The priority of who has waited already: a request whose backend failed it."""
REMEMBERED: Final = 512
"""Flows of a line, and lines, whose debts are remembered while nobody waits in them; the latest."""

Verdict = Literal["taken", "full", "gone"]
"""What came of an offer: it goes now; it has to wait, and its lane with it; it waits no longer."""


class Ahead(NamedTuple):
    """What goes before a request that comes now, unless others come that may pass it.

    Attributes:
        tokens: its estimated cost.
        requests: how many they are, about.
    """

    tokens: float
    requests: int


class Entry(Generic[T]):
    """One waiter."""

    __slots__ = ("cost", "flow", "item", "number")

    def __init__(self, item: T, flow: "_Flow[T]", cost: int, number: int) -> None:
        self.item = item
        self.flow = flow
        self.cost = cost
        self.number = number

    @property
    def lane(self) -> Hashable:
        """The lane it waits in."""
        return self.flow.line.lane

    @property
    def tenant(self) -> str:
        """Who waits."""
        return self.flow.tenant.name


class _Tenant(Generic[T]):
    """Somebody who waits, with the flows that he waits in."""

    __slots__ = ("flows", "name", "waiting", "weight")

    def __init__(self, name: str) -> None:
        self.name = name
        self.weight = 1.0
        self.waiting = 0
        self.flows: list[_Flow[T]] = []

    def weigh(self) -> None:
        """Spread the weight over the flows."""
        for flow in self.flows:
            flow.line.weigh(flow, self.weight / len(self.flows))


class _Flow(Generic[T]):
    """One tenant in one line; its waiters in the order they came.

    Attributes:
        share: the part of its tenant's weight that counts in this line; 0 while nobody waits.
        placed: it has a place in the line's heap.
    """

    __slots__ = ("cost", "entries", "line", "placed", "share", "tenant", "turn")

    def __init__(self, tenant: _Tenant[T], line: "_Line[T]") -> None:
        self.tenant = tenant
        self.line = line
        self.turn = 0.0
        self.cost = 0
        self.share = 0.0
        self.placed = False
        self.entries: OrderedDict[Entry[T], None] = OrderedDict()


class _Level:
    """One priority.

    Attributes:
        clock: the turn of the line that went last.
        passed: requests of higher priority that went since one of this priority did.
    """

    __slots__ = ("clock", "passed", "priority", "waiting")

    def __init__(self, priority: float) -> None:
        self.priority = priority
        self.clock = 0.0
        self.passed = 0
        self.waiting = 0

    @property
    def rank(self) -> float:
        """What to order priorities by; the lowest goes first."""
        if self.passed >= PATIENCE and self.priority != FIRST:
            return -1e300
        return -self.priority


class _Line(Generic[T]):
    """The waiters of one lane and one priority.

    Attributes:
        clock: the turn of the flow that went last.
        heap: flows by their turn; there may be some that nobody waits in any more, and turns that have moved on since.
    """

    __slots__ = ("active", "clock", "cost", "flows", "heap", "lane", "level", "sizes", "turn", "waiting", "weight")

    def __init__(self, lane: Hashable, level: _Level) -> None:
        self.lane = lane
        self.level = level
        self.turn = level.clock
        self.clock = 0.0
        self.waiting = 0
        self.active = 0
        self.cost = 0
        self.weight = 0.0
        self.sizes = _Sizes()
        self.flows: dict[str, _Flow[T]] = {}
        self.heap: list[tuple[float, int, _Flow[T]]] = []

    def first(self) -> _Flow[T]:
        """Return the flow that goes next. Somebody must be waiting."""
        while True:
            turn, number, flow = self.heap[0]
            if not flow.entries:
                flow.placed = False
                heappop(self.heap)
            elif turn < flow.turn:
                heapreplace(self.heap, (flow.turn, number, flow))
            else:
                return flow

    def place(self, flow: _Flow[T], number: int) -> None:
        """Let `flow`, which nobody waited in, take part."""
        flow.turn = max(flow.turn, self.clock)
        self.active += 1
        if not flow.placed:
            flow.placed = True
            heappush(self.heap, (flow.turn, number, flow))

    def weigh(self, flow: _Flow[T], share: float) -> None:
        """Let `flow` weigh `share`."""
        self.sizes.take(flow.cost, flow.share)
        self.weight += share - flow.share
        flow.share = share
        self.sizes.put(flow.cost, share)

    def ask(self, flow: _Flow[T], cost: int) -> None:
        """Note that one in `flow` waits who asks for `cost` tokens; one less, where that is negative."""
        self.sizes.take(flow.cost, flow.share)
        self.cost += cost
        flow.cost += cost
        self.sizes.put(flow.cost, flow.share)

    def tidy(self) -> None:
        """Forget flows that nobody waits in, but for the latest."""
        if len(self.flows) > self.active + 2 * REMEMBERED:
            idle = [name for name, flow in self.flows.items() if not flow.entries]
            for name in idle[:-REMEMBERED]:
                del self.flows[name]
        if len(self.heap) > 2 * self.active + REMEMBERED:
            for _, _, flow in self.heap:
                flow.placed = bool(flow.entries)
            self.heap = [place for place in self.heap if place[2].placed]
            heapify(self.heap)


class FairQueue(Generic[T]):
    """Waiters of any type, and whose turn it is."""

    def __init__(self) -> None:
        self._numbers = count()
        self._length = 0
        self._levels: dict[float, _Level] = {}
        self._lines: dict[tuple[Hashable, float], _Line[T]] = {}
        self._open: dict[_Line[T], None] = {}
        self._lanes: Counter[Hashable] = Counter()
        self._tenants: dict[str, _Tenant[T]] = {}
        self._crowds: list[tuple[float, int, _Tenant[T]]] = []

    def __len__(self) -> int:
        return self._length

    def in_lane(self, lane: Hashable) -> int:
        """Return how many wait in `lane`."""
        return self._lanes[lane]

    def of_tenant(self, tenant: str) -> int:
        """Return how many of `tenant` wait."""
        known = self._tenants.get(tenant)
        return known.waiting if known is not None else 0

    def by_tenant(self) -> dict[str, int]:
        """Return how many wait, by tenant."""
        return {name: tenant.waiting for name, tenant in self._tenants.items()}

    # Coming and going

    def push(
        self, item: T, *, tenant: str, lane: Hashable, cost: int, weight: float = 1.0, priority: float = 0.0
    ) -> Entry[T]:
        """Let `item` wait.

        Args:
            tenant: who is treated fairly.
            lane: what can be served alike.
            cost: tokens it is expected to take.
            weight: the tenant's share of what is served, compared to the others'; the latest counts for all of it.
            priority: higher ones go first.
        """
        owner = self._tenants.get(tenant)
        if owner is None:
            owner = self._tenants[tenant] = _Tenant(tenant)
        flow = self._flow(owner, lane, priority)
        line, number = flow.line, next(self._numbers)
        entry = Entry(item, flow, cost, number)
        if not flow.entries:
            owner.flows.append(flow)
            line.place(flow, number)
        if not flow.share or owner.weight != weight:
            owner.weight = weight
            owner.weigh()
        flow.entries[entry] = None
        line.ask(flow, cost)
        self._open[line] = None
        self._count(owner, line, 1)
        self._note_crowd(owner, number)
        return entry

    def remove(self, entry: Entry[T]) -> bool:
        """Let `entry` wait no longer; returns whether it did."""
        flow = entry.flow
        if entry not in flow.entries:
            return False
        owner, line = flow.tenant, flow.line
        del flow.entries[entry]
        line.ask(flow, -entry.cost)
        self._count(owner, line, -1)
        if not flow.entries:
            line.weigh(flow, 0.0)
            line.active -= 1
            owner.flows.remove(flow)
            owner.weigh()
            line.tidy()
        if not line.waiting:
            del self._open[line]
            line.weight = 0.0  # sums of fractions drift
            line.sizes = _Sizes()
        if not owner.waiting:
            del self._tenants[owner.name]
        return True

    def drain(self, offer: Callable[[T, int], Verdict]) -> None:
        """Offer waiters in the order of their turns, until everybody who is left has to wait.

        `offer` is given the waiter and how many wait in its lane. It may remove waiters, but must add none.
        """
        full: set[Hashable] = set()
        while line := self._next(full, offer):
            line.tidy()

    def _next(self, full: set[Hashable], offer: Callable[[T, int], Verdict]) -> _Line[T] | None:
        """Offer, line after line, until somebody goes; note full lanes."""
        for line in sorted(self._open, key=_order):
            if line.lane in full:
                continue
            flow = line.first()
            entry = next(iter(flow.entries))
            verdict = offer(entry.item, self._lanes[line.lane])
            if verdict == "full":
                full.add(line.lane)
                continue
            if verdict == "taken":
                self._serve(flow, entry.cost, flow.share)
                self._pass_over(line.level)
            self.remove(entry)
            return line
        return None

    # What is paid

    def charge(self, *, tenant: str, lane: Hashable, cost: int, weight: float = 1.0, priority: float = 0.0) -> None:
        """Let `tenant` pay for a request that went without waiting."""
        owner = self._tenants.get(tenant) or _Tenant(tenant)
        flow = self._flow(owner, lane, priority)
        self._serve(flow, cost, flow.share or weight)
        if not flow.entries:
            flow.line.flows[tenant] = flow.line.flows.pop(tenant)  # the latest
            flow.line.tidy()

    def settle(self, *, tenant: str, lane: Hashable, tokens: int, weight: float = 1.0, priority: float = 0.0) -> None:
        """Let `tenant` pay `tokens` more for a request that took more than expected, or less where that is negative."""
        line = self._lines.get((lane, priority))
        flow = line.flows.get(tenant) if line is not None else None
        if line is not None and flow is not None:
            flow.turn += tokens / (flow.share or weight)
            line.turn += tokens / (line.weight or weight)

    def _serve(self, flow: _Flow[T], cost: int, share: float) -> None:
        line = flow.line
        line.clock = max(flow.turn, line.clock)
        flow.turn = line.clock + cost / share
        level = line.level
        level.clock = max(line.turn, level.clock)
        line.turn = level.clock + cost / (line.weight or share)

    def _pass_over(self, served: _Level) -> None:
        served.passed = 0
        for level in self._levels.values():
            if level.waiting and level.priority < served.priority:
                level.passed += 1

    # What to expect

    def ahead(self, *, tenant: str, lane: Hashable, cost: int, weight: float = 1.0, priority: float = 0.0) -> Ahead:
        """Return what would go before a request that came now."""
        tokens, requests = 0.0, 0
        for line in self._open:
            if line.lane == lane and line.level.priority > priority:
                tokens += line.cost
                requests += line.waiting
        line_ = self._lines.get((lane, priority))
        if line_ is None or not line_.waiting:
            return Ahead(tokens, requests)
        mean = line_.cost / line_.waiting
        owner = self._tenants.get(tenant)
        flow = line_.flows.get(tenant)
        flows = len(owner.flows) if owner is not None else 0
        share = weight / (flows if flow is not None and flow.entries else flows + 1)
        debt = max(0.0, flow.turn - line_.clock) if flow is not None else 0.0
        own = flow.cost if flow is not None else 0
        before = line_.sizes.below(debt + (own + min(cost, mean)) / share)
        return Ahead(tokens + before, requests + (min(line_.waiting, round(before / mean)) if mean else line_.waiting))

    def crowd(self, tenant: str, weight: float = 1.0) -> Entry[T] | None:
        """Return who should give way to a request of `tenant` where there is room for no more.

        That is the last of the tenant that has most waiters for its weight; None where that would still be `tenant`.
        """
        while self._crowds:
            crowding, number, most = self._crowds[0]
            now = -most.waiting / most.weight
            if now == crowding:
                if -now <= (self.of_tenant(tenant) + 1) / weight:
                    return None
                return max((next(reversed(flow.entries)) for flow in most.flows), key=_number)
            if most.waiting and now > crowding:
                heapreplace(self._crowds, (now, number, most))
            else:
                heappop(self._crowds)
        return None

    def _note_crowd(self, tenant: _Tenant[T], number: int) -> None:
        heappush(self._crowds, (-tenant.waiting / tenant.weight, number, tenant))
        if len(self._crowds) > 2 * len(self._tenants) + REMEMBERED:
            self._crowds = [
                (-tenant.waiting / tenant.weight, number, tenant)
                for number, tenant in enumerate(self._tenants.values())
            ]
            heapify(self._crowds)

    # Keeping count

    def _flow(self, tenant: _Tenant[T], lane: Hashable, priority: float) -> _Flow[T]:
        """Return the flow of `tenant` in a line, remembered or new."""
        line = self._lines.get((lane, priority))
        if line is None:
            level = self._levels.get(priority)
            if level is None:
                level = self._levels[priority] = _Level(priority)
            line = self._lines[lane, priority] = _Line(lane, level)
            self._tidy()
        flow = line.flows.get(tenant.name)
        if flow is None:
            flow = line.flows[tenant.name] = _Flow(tenant, line)
        elif not flow.entries:
            flow.tenant = tenant
        return flow

    def _count(self, tenant: _Tenant[T], line: _Line[T], by: int) -> None:
        self._length += by
        tenant.waiting += by
        line.waiting += by
        line.level.waiting += by
        self._lanes[line.lane] += by
        if not self._lanes[line.lane]:
            del self._lanes[line.lane]

    def _tidy(self) -> None:
        """Forget lines that nobody waits in, but for the latest."""
        if len(self._lines) > len(self._open) + 2 * REMEMBERED:
            idle = [key for key, line in self._lines.items() if not line.waiting]
            for key in idle[:-REMEMBERED]:
                del self._lines[key]


class _Sizes(Generic[T]):
    """How much is asked for by flows that ask for how much, so that nobody has to walk all of them.

    Flows are put together whose cost by share is about the same (to a factor of two).
    """

    __slots__ = ("_costs", "_shares")

    def __init__(self) -> None:
        self._costs = [0] * 64
        self._shares = [0.0] * 64

    def put(self, cost: int, share: float) -> None:
        """Count a flow."""
        if share:
            size = _size(cost / share)
            self._costs[size] += cost
            self._shares[size] += share

    def take(self, cost: int, share: float) -> None:
        """Count it no more."""
        if share:
            size = _size(cost / share)
            self._costs[size] -= cost
            self._shares[size] -= share

    def below(self, mark: float) -> float:
        """Return what all flows together are given until each was given `mark` for each of its share, or all it wants."""
        size = _size(mark)
        return (
            sum(self._costs[:size])
            + min(self._costs[size], mark * self._shares[size])
            + mark * sum(self._shares[size + 1 :])
        )


def _size(tokens: float) -> int:
    return min(63, int(tokens).bit_length())


def _order(line: _Line[T]) -> tuple[float, float]:
    return line.level.rank, line.turn


def _number(entry: Entry[T]) -> int:
    return entry.number
