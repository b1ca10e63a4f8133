"""What ``proxy/queue/fair_queue.py`` is made of: tenants, their flows, the lines they stand in, priorities."""

from collections import OrderedDict
from collections.abc import Hashable
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

REMEMBERED: Final = 512
"""Flows of a line, and lines, that are remembered while nobody waits in them: what they owe and what was learned."""
FORGOTTEN: Final = 0.1
"""How much of what was learned of requests counts no more with one more request."""
LEAST: Final = 0.05
"""What is paid at least for a token that was expected: a slot was held for it."""


class Claim(NamedTuple):
    """What a request asks for.

    Attributes:
        tenant: who is treated fairly.
        lane: what can be served alike: the requests of a lane wait for the same slots.
        cost: tokens it is expected to take.
        weight: the tenant's share of what is served, compared to the others'; of several the latest counts.
        priority: higher ones go first.
    """

    tenant: str
    lane: Hashable
    cost: int
    weight: float = 1.0
    priority: float = 0.0

    @property
    def who(self) -> Hashable:
        """Whose demand for which slots it belongs to."""
        return self.tenant, self.lane


class Entry(Generic[T]):
    """One waiter."""

    __slots__ = ("claim", "flow", "item", "number")

    def __init__(self, item: T, claim: Claim, flow: "Flow[T]", number: int) -> None:
        self.item = item
        self.claim = claim
        self.flow = flow
        self.number = number


def number_of(entry: Entry[T]) -> int:
    """Return the place of `entry` in the order in which all came."""
    return entry.number


class Tenant(Generic[T]):
    """Somebody who waits.

    Attributes:
        flows: in how many lines.
        entries: its waiters in the order they came.
    """

    __slots__ = ("entries", "flows", "name", "weight")

    def __init__(self, name: str) -> None:
        self.name = name
        self.weight = 1.0
        self.flows = 0
        self.entries: OrderedDict[Entry[T], None] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self.entries)

    @property
    def crowding(self) -> float:
        """How many wait, for its weight."""
        return len(self.entries) / self.weight

    @property
    def part(self) -> float:
        """The part of its weight that it has in each line. It must be waiting in one."""
        return self.weight / self.flows


class Learned:
    """What requests took, compared to what was expected of them, both in tokens; the latest requests count most."""

    __slots__ = ("_expected", "_used")

    def __init__(self) -> None:
        self._expected = 0.0
        self._used = 0.0

    def note(self, expected: int, used: int) -> None:
        """Note one more request."""
        self._expected += expected - FORGOTTEN * self._expected
        self._used += used - FORGOTTEN * self._used

    def __bool__(self) -> bool:
        return self._expected > 0

    @property
    def ratio(self) -> float:
        """Tokens taken for each that was expected, above 0; 1 before anything was learned."""
        return max(self._used / self._expected, LEAST) if self else 1.0


class Flow(Generic[T]):
    """One tenant in one line; its waiters in the order they came.

    Attributes:
        turn: when it goes, compared to the other flows of the line.
        cost: tokens that its waiters ask for.
        share: the part of its tenant's weight that counts in this line, as it was when somebody came or went last; 0
            while nobody waits.
        place: the number of its place in the line's heap; other places it may have there do not count.
        learned: of its own requests.
    """

    __slots__ = ("cost", "entries", "learned", "line", "place", "share", "tenant", "turn")

    def __init__(self, tenant: Tenant[T], line: "Line[T]") -> None:
        self.tenant = tenant
        self.line = line
        self.turn = 0.0
        self.cost = 0
        self.share = 0.0
        self.place = -1
        self.learned = Learned()
        self.entries: OrderedDict[Entry[T], None] = OrderedDict()


class Level:
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


class Line(Generic[T]):
    """The waiters of one lane and one priority.

    Attributes:
        turn: when it goes, compared to the other lines of its priority.
        clock: the turn of the flow that went last.
        active: flows that somebody waits in.
        cost: tokens that its waiters ask for.
        weight: the shares of its flows.
        learned: of all its requests.
        flows: by tenant, also some that nobody waits in now.
    """

    __slots__ = ("_heap", "active", "clock", "cost", "flows", "lane", "learned", "level", "sizes", "turn", "waiting",
                 "weight")  # fmt: skip

    def __init__(self, lane: Hashable, level: Level) -> None:
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
        # By turn, then by place. There may be places that count no more, and turns that have moved on since.
        self._heap: list[tuple[float, int, Flow[T]]] = []

    def first(self) -> Flow[T]:
        """Return the flow that goes next. Somebody must be waiting."""
        while True:
            turn, place, flow = self._heap[0]
            if place != flow.place:
                heappop(self._heap)
            elif turn < flow.turn:
                heapreplace(self._heap, (flow.turn, place, flow))
            else:
                return flow

    def open(self, flow: Flow[T], place: int) -> None:
        """Let `flow` take part, in which somebody waits from now on."""
        flow.turn = max(flow.turn, self.clock)
        self.active += 1
        flow.place = place
        heappush(self._heap, (flow.turn, place, flow))

    def close(self, flow: Flow[T]) -> None:
        """Let `flow` take no more part: nobody waits in it."""
        self.weigh(flow, 0.0)
        flow.place = -1
        self.active -= 1
        if not self.active:
            self.weight = 0.0  # sums of fractions drift
            self.sizes = Sizes()
        self.tidy()

    def weigh(self, flow: Flow[T], share: float) -> None:
        """Let `flow` weigh `share`."""
        if share == flow.share:
            return
        self.sizes.remove(flow.cost, flow.share)
        self.weight += share - flow.share
        flow.share = share
        self.sizes.add(flow.cost, share)

    def ask(self, flow: Flow[T], cost: int) -> None:
        """Note that those who wait in `flow` ask for `cost` tokens more; less, where that is negative."""
        self.sizes.remove(flow.cost, flow.share)
        self.cost += cost
        flow.cost += cost
        self.sizes.add(flow.cost, flow.share)

    def serve(self, flow: Flow[T], cost: int, weight: float) -> None:
        """Let `flow`, and the line, pay for a request.

        The cost is what is expected of it, corrected by what was learned of the tenant's, or of all where it is new;
        `weight` is for a flow that nobody waits in.
        """
        paid = cost * (flow.learned or self.learned).ratio
        self.clock = max(flow.turn, self.clock)
        if not flow.entries:
            flow.turn = self.clock
            self.flows[flow.tenant.name] = self.flows.pop(flow.tenant.name)  # the latest of those without waiters
            self.tidy()
        flow.turn += paid / (flow.share or weight)
        self.level.clock = max(self.turn, self.level.clock)
        self.turn = self.level.clock + paid / (self.weight or weight)

    def tidy(self) -> None:
        """Forget flows that nobody waits in, but for the latest."""
        if len(self.flows) > self.active + 2 * REMEMBERED:
            idle = [name for name, flow in self.flows.items() if not flow.entries]
            for name in idle[:-REMEMBERED]:
                del self.flows[name]
        if len(self._heap) > 2 * self.active + REMEMBERED:
            self._heap = [(turn, place, flow) for turn, place, flow in self._heap if place == flow.place]
            heapify(self._heap)


class Sizes:
    """How many tokens are asked for by flows that ask for how many, so that nobody has to walk all the flows.

    Flows are counted together whose cost for their share is the same to a factor of two.
    """

    __slots__ = ("_costs", "_shares")

    def __init__(self) -> None:
        self._costs = [0] * 64
        self._shares = [0.0] * 64

    def add(self, cost: int, share: float) -> None:
        """Count a flow."""
        if share:
            size = _size(cost / share)
            self._costs[size] += cost
            self._shares[size] += share

    def remove(self, cost: int, share: float) -> None:
        """Count it no more."""
        if share:
            size = _size(cost / share)
            self._costs[size] -= cost
            self._shares[size] -= share

    def until(self, turn: float) -> float:
        """Return the tokens that all flows get until the line's clock has moved on by `turn`."""
        size = _size(turn)
        costs, shares = self._costs, self._shares
        return sum(costs[:size]) + min(costs[size], turn * shares[size]) + turn * sum(shares[size + 1 :])


def _size(tokens: float) -> int:
    return min(63, int(tokens).bit_length())


class Crowds(Generic[T]):
    """Which tenant has the most waiters for its weight."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Tenant[T]]] = []

    def note(self, tenant: Tenant[T], number: int, tenants: int) -> None:
        """Note that `tenant`, one of `tenants`, has one more waiter, the one with `number`."""
        heappush(self._heap, (-tenant.crowding, number, tenant))
        if len(self._heap) > 2 * tenants + REMEMBERED:
            # Of each tenant the largest crowd is enough: `largest` finds it smaller by itself.
            latest = {place[2]: place for place in sorted(self._heap, reverse=True) if place[2].waiting}
            self._heap = list(latest.values())
            heapify(self._heap)

    def largest(self) -> Tenant[T] | None:
        """Return who has the most waiters for its weight; None where nobody waits."""
        while self._heap:
            noted, number, tenant = self._heap[0]
            if not tenant.waiting:
                heappop(self._heap)
            elif noted < -tenant.crowding:
                heapreplace(self._heap, (-tenant.crowding, number, tenant))
            else:
                return tenant
        return None
