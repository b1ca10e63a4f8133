"""Who goes next: a fair queue. Pure data, without I/O, tasks or a clock.

Waiters stand in lines. A line is a lane and a priority; the requests of one lane can be served by the same backends, so
that where one of them has to wait all of them have to, and nobody else has.

- **Between the tenants of a line** it is deficit round robin: each is given tokens by its weight. The rounds are
  numbers here instead of walks around a ring. The *turn* of a flow (a tenant in a line) is the round in which it has
  paid for what it was given. The lowest turn goes next, and being served moves it on by cost / weight, where the cost
  is what is expected of the request, corrected by what the tenant's latest ones really took. Whoever comes (back)
  starts at the line's clock, the turn of who went last: absence earns nothing, and a debt is kept.
- **Between the lines** it is the same. A line weighs what its tenants weigh in it, and a tenant that waits in several
  lines has a part of its weight in each: asking for many models brings nobody more.
- **Between priorities** the higher goes first, except that a priority which was passed over `PATIENCE` times has one
  request served before all others. So everybody's turn comes.

With n waiters in k lines everything takes O(log n) steps, whoever they are; but to look at all the lines, which is when
a slot comes free, takes another k log k.
"""

from collections.abc import Callable, Collection, Hashable, Iterator
from itertools import count
from math import inf
from typing import Final, Generic, Literal, NamedTuple

from proxy.queue.flows import REMEMBERED, Claim, Crowds, Entry, Flow, Level, Line, T, Tenant, number_of

PATIENCE: Final = 10
"""Requests of higher priority that go before one of lower priority."""
FIRST: Final = inf
"""The priority of who has waited already: a request whose backend failed it."""

Verdict = Literal["taken", "full", "over", "gone"]
"""What came of an offer: it goes now; it has to wait, and its lane with it, or everybody; it waits no longer."""


class Ahead(NamedTuple):
    """What goes before a request that comes now, unless others come that may pass it.

    Attributes:
        tokens: what is expected of it.
        requests: how many they are, about.
    """

    tokens: float
    requests: int


class FairQueue(Generic[T]):
    """Waiters of any type, and whose turn it is."""

    def __init__(self) -> None:
        self._numbers: Iterator[int] = count()
        self._length = 0
        self._levels: dict[float, Level] = {}
        self._lines: dict[tuple[Hashable, float], Line[T]] = {}
        self._open: dict[Line[T], None] = {}
        self._lanes: dict[Hashable, list[Line[T]]] = {}  # those of `_open`
        self._tenants: dict[str, Tenant[T]] = {}
        self._crowds: Crowds[T] = Crowds()

    def __len__(self) -> int:
        return self._length

    def in_lane(self, lane: Hashable) -> int:
        """Return how many wait in `lane`."""
        return sum([line.waiting for line in self._lanes.get(lane, ())])

    def of_tenant(self, name: str) -> int:
        """Return how many of a tenant wait."""
        tenant = self._tenants.get(name)
        return tenant.waiting if tenant is not None else 0

    def by_tenant(self) -> dict[str, int]:
        """Return how many wait, by tenant."""
        return {name: tenant.waiting for name, tenant in self._tenants.items()}

    # Coming and going

    def push(self, item: T, claim: Claim) -> Entry[T]:
        """Let `item` wait."""
        tenant = self._tenants.setdefault(claim.tenant, Tenant(claim.tenant))
        tenant.weight = claim.weight
        flow = self._flow(claim, tenant)
        entry = Entry(item, claim, flow, next(self._numbers))
        if not flow.entries:
            self._begin(flow, entry.number)
        flow.entries[entry] = tenant.entries[entry] = None
        flow.line.weigh(flow, tenant.part)
        flow.line.ask(flow, claim.cost)
        self._count(flow, 1)
        self._crowds.note(tenant, entry.number, len(self._tenants))
        return entry

    def remove(self, entry: Entry[T]) -> bool:
        """Let `entry` wait no longer; returns whether it did."""
        flow = entry.flow
        if entry not in flow.entries:
            return False
        del flow.entries[entry], flow.tenant.entries[entry]
        flow.line.ask(flow, -entry.claim.cost)
        self._count(flow, -1)
        if not flow.entries:
            self._end(flow)
        return True

    def oldest(self) -> Entry[T] | None:
        """Return who came first of all. Takes as long as there are tenants."""
        firsts = (next(iter(tenant.entries)) for tenant in self._tenants.values())
        return min(firsts, key=number_of, default=None)

    def drain(self, offer: Callable[[Entry[T], int], Verdict], lane: Hashable | None = None) -> None:
        """Offer waiters, those of `lane` or all, in the order of their turns, until who is left has to wait.

        `offer` is given the waiter and how many wait in its lane, it included. It must neither add nor remove any.
        """
        full: set[Hashable] = set()
        while self._drain_one(offer, self._open if lane is None else self._lanes.get(lane, ()), full):
            pass

    def _drain_one(
        self, offer: Callable[[Entry[T], int], Verdict], lines: Collection[Line[T]], full: set[Hashable]
    ) -> bool:
        """Offer line after line until one waiter goes; `full` are the lanes that have to wait."""
        for line in sorted(lines, key=_order):
            if line.lane in full:
                continue
            flow = line.first()
            entry = next(iter(flow.entries))
            verdict = offer(entry, self.in_lane(line.lane))
            if verdict == "over":
                return False
            if verdict == "full":
                full.add(line.lane)
                continue
            if verdict == "taken":
                line.weigh(flow, flow.tenant.part)
                line.serve(flow, entry.claim.cost, entry.claim.weight)
                self._pass_over(line.level)
            return self.remove(entry)
        return False

    def _pass_over(self, served: Level) -> None:
        served.passed = 0
        for level in self._levels.values():
            if level.waiting and level.priority < served.priority:
                level.passed += 1

    # Paying

    def charge(self, claim: Claim) -> None:
        """Let a request pay that went without waiting."""
        flow = self._flow(claim, self._tenants.get(claim.tenant) or Tenant(claim.tenant))
        flow.line.serve(flow, claim.cost, claim.weight)

    def learn(self, claim: Claim, tokens: int) -> None:
        """Learn that a request that went took so many `tokens`: the next ones like it pay accordingly."""
        line = self._lines.get((claim.lane, claim.priority))
        if line is not None:
            line.learned.note(claim.cost, tokens)
            if claim.tenant in line.flows:
                line.flows[claim.tenant].learned.note(claim.cost, tokens)

    # What to expect

    def ahead(self, claim: Claim) -> Ahead:
        """Return what would go before a request that came now."""
        tokens, requests = 0.0, 0
        for line in self._lanes.get(claim.lane, ()):
            if line.level.priority > claim.priority:
                tokens += line.cost
                requests += line.waiting
        line_ = self._lines.get((claim.lane, claim.priority))
        if line_ is None or not line_.cost:
            return Ahead(tokens, requests)
        tenant, flow = self._tenants.get(claim.tenant), line_.flows.get(claim.tenant)
        flows = tenant.flows if tenant is not None else 0
        own, debt = 0, 0.0
        if flow is None or not flow.entries:
            flows += 1
        if flow is not None:
            own, debt = flow.cost, max(0.0, flow.turn - line_.clock) / line_.learned.ratio
        mean = line_.cost / line_.waiting
        before = line_.sizes.until(debt + (own + min(claim.cost, mean)) * flows / claim.weight)
        return Ahead(tokens + before, requests + min(line_.waiting, round(before / mean)))

    def crowding_out(self, claim: Claim) -> Entry[T] | None:
        """Return who should give way where there is room for no more.

        That is the last of the tenant that has the most waiters for its weight; None where that would be the tenant who
        asks for a place.
        """
        tenant = self._crowds.largest()
        if tenant is None or tenant.name == claim.tenant:
            return None
        with_it = (self.of_tenant(claim.tenant) + 1) / claim.weight
        return next(reversed(tenant.entries)) if tenant.crowding > with_it else None

    # Keeping count

    def _flow(self, claim: Claim, tenant: Tenant[T]) -> Flow[T]:
        """Return the flow of `tenant` in a line, as it is remembered or new."""
        line = self._lines.get((claim.lane, claim.priority)) or self._line(claim)
        flow = line.flows.get(claim.tenant)
        if flow is None:
            flow = line.flows[claim.tenant] = Flow(tenant, line)
        elif not flow.entries:
            flow.tenant = tenant
        return flow

    def _line(self, claim: Claim) -> Line[T]:
        level = self._levels.setdefault(claim.priority, Level(claim.priority))
        line = self._lines[claim.lane, claim.priority] = Line(claim.lane, level)
        if len(self._lines) > len(self._open) + 2 * REMEMBERED:
            idle = [key for key, line in self._lines.items() if not line.active]
            for key in idle[:-REMEMBERED]:
                del self._lines[key]
        return line

    def _begin(self, flow: Flow[T], number: int) -> None:
        """Let somebody wait in `flow`, where nobody did."""
        line = flow.line
        if not line.active:
            self._open[line] = None
            self._lanes.setdefault(line.lane, []).append(line)
        line.open(flow, number)
        flow.tenant.flows += 1

    def _end(self, flow: Flow[T]) -> None:
        """Let nobody wait in `flow`, where somebody did."""
        line, tenant = flow.line, flow.tenant
        line.close(flow)
        if not line.active:
            del self._open[line]
            self._lanes[line.lane].remove(line)
            if not self._lanes[line.lane]:
                del self._lanes[line.lane]
        tenant.flows -= 1
        if not tenant.flows:
            del self._tenants[tenant.name]

    def _count(self, flow: Flow[T], by: int) -> None:
        line = flow.line
        self._length += by
        line.waiting += by
        line.level.waiting += by
        if not line.level.waiting:
            line.level.passed = 0


def _order(line: Line[T]) -> tuple[bool, float, float]:
    return line.level.passed < PATIENCE, -line.level.priority, line.turn
