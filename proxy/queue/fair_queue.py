"""The fair queue: the order in which waiting requests go. Pure data, without I/O, tasks or a clock.

Each waiter stands in the queue of one lane and one priority (`LaneQueue`). The same backends can serve all requests of
a lane: where one of them has to wait all of them have to, and requests of other lanes need not.

- **Between the tenants of a queue** the order is deficit round robin: each tenant gets tokens by its weight. The rounds
  are numbers here, where the textbook walks around a ring. The *turn* of a flow (one tenant in one queue) is the round
  up to which it has paid for what it got. The flow with the lowest turn goes next. A served request moves the turn on
  by cost / weight; its cost is the tokens expected of it, corrected by what the tenant's latest requests really took. A
  flow that begins (again) starts at the queue's clock, the turn of the flow that went last: absence earns nothing, and
  a debt is kept.
- **Between the people of a tenant**, where it names them (``people.py``), the order within its flow is the same. What
  the tenant gets does not depend on how many they are.
- **Between the queues of a priority** the order is the same. A queue weighs what its tenants weigh in it. A tenant that
  waits in several queues has a part of its weight in each, so that asking for many models gains nothing.
- **Between priorities** the higher one goes first. But a priority that was passed over `PATIENCE` times has one request
  served before all others, so that every request gets its turn.

With n waiters in k queues every step takes O(log n) time, whoever the waiters are. Offering a free slot to all queues
takes another k log k.
"""

from collections.abc import Callable, Collection, Hashable, Iterator
from itertools import count, zip_longest
from math import inf
from typing import Final, Generic, Literal, NamedTuple

from proxy.queue.crowds import Crowds
from proxy.queue.fair_queue_parts import (
    REMEMBERED,
    Claim,
    Entry,
    Flow,
    LaneQueue,
    PriorityLevel,
    T,
    Tenant,
    number_of,
)

PATIENCE: Final = 10
"""How many requests of higher priority go before one of lower priority."""
FIRST: Final = inf
"""The priority of a request that has waited already, and whose backend then failed."""

Verdict = Literal["taken", "full", "over", "gone"]
"""The result of an offer.

``taken``: the waiter goes now. ``full``: its lane has to wait. ``over``: every lane has to wait. ``gone``: it no longer
waits."""


class Ahead(NamedTuple):
    """The waiters that go before a request that comes now, if no others come that may pass it.

    Attributes:
        tokens: tokens that they are expected to take.
        requests: about how many they are.
    """

    tokens: float
    requests: int


class FairQueue(Generic[T]):
    """Waiters of any type, in the order of their turns."""

    def __init__(self) -> None:
        self._numbers: Iterator[int] = count()
        self._length = 0
        self._levels: dict[float, PriorityLevel] = {}
        self._queues: dict[tuple[Hashable, float], LaneQueue[T]] = {}
        self._open: dict[LaneQueue[T], None] = {}
        self._lanes: dict[Hashable, list[LaneQueue[T]]] = {}  # the queues of `_open`, by lane
        self._tenants: dict[str, Tenant[T]] = {}
        self._crowds: Crowds[Tenant[T]] = Crowds()

    def __len__(self) -> int:
        return self._length

    def in_lane(self, lane: Hashable) -> int:
        """Return how many wait in `lane`."""
        return sum([queue.waiting for queue in self._lanes.get(lane, ())])

    def of_tenant(self, name: str) -> int:
        """Return how many waiters a tenant has."""
        tenant = self._tenants.get(name)
        return tenant.waiting if tenant is not None else 0

    def by_tenant(self) -> dict[str, int]:
        """Return the number of waiters, by tenant."""
        return {name: tenant.waiting for name, tenant in self._tenants.items()}

    # Coming and going

    def push(self, item: T, claim: Claim) -> Entry[T]:
        """Add `item` as a waiter, and return its entry."""
        tenant = self._tenants.setdefault(claim.tenant, Tenant(claim.tenant))
        tenant.weight = claim.weight
        flow = self._flow(claim, tenant)
        entry = Entry(item, claim, flow, next(self._numbers))
        if not flow.entries:
            self._begin(flow, entry.number)
        flow.add(entry)
        tenant.add(entry)
        flow.queue.weigh(flow, tenant.part)
        flow.queue.ask(flow, claim.cost)
        self._count(flow, 1)
        self._crowds.note(tenant, entry.number, len(self._tenants))
        return entry

    def remove(self, entry: Entry[T]) -> bool:
        """Remove a waiter; return whether it was waiting."""
        flow = entry.flow
        if entry not in flow.entries:
            return False
        flow.remove(entry)
        flow.tenant.remove(entry)
        flow.queue.ask(flow, -entry.claim.cost)
        self._count(flow, -1)
        if not flow.entries:
            self._end(flow)
        return True

    def oldest(self) -> Entry[T] | None:
        """Return the waiter that came first of all. Takes time in proportion to the number of tenants."""
        firsts = (next(iter(tenant.entries)) for tenant in self._tenants.values())
        return min(firsts, key=number_of, default=None)

    def drain(self, offer: Callable[[Entry[T], int], Verdict], lane: Hashable | None = None) -> None:
        """Offer waiters, all or those of `lane`, in the order of their turns, until those that are left have to wait.

        `offer` gets the waiter, and how many wait in its lane, this one included. It must not add or remove waiters.
        """
        full: set[Hashable] = set()
        while self._drain_one(offer, self._open if lane is None else self._lanes.get(lane, ()), full):
            pass

    def _drain_one(
        self, offer: Callable[[Entry[T], int], Verdict], queues: Collection[LaneQueue[T]], full: set[Hashable]
    ) -> bool:
        """Offer the first waiter of queue after queue until one goes. Adds to `full` the lanes that have to wait."""
        for queue in sorted(queues, key=_order):
            if queue.lane in full:
                continue
            flow = queue.first()
            entry = flow.first()
            verdict = offer(entry, self.in_lane(queue.lane))
            if verdict == "over":
                return False
            if verdict == "full":
                full.add(queue.lane)
                continue
            if verdict == "taken":
                self._serve(entry)
            return self.remove(entry)
        return False

    def offer_to(self, name: str, offer: Callable[[Entry[T], int], Verdict]) -> None:
        """Offer the waiters of one tenant, each flow's first, in the order of arrival, until one goes."""
        tenant = self._tenants.get(name)
        flows = {entry.flow: None for entry in tenant.entries} if tenant is not None else {}
        for flow in flows:
            entry = flow.first()
            verdict = offer(entry, self.in_lane(flow.queue.lane))
            if verdict == "taken":
                self._serve(entry)
            if verdict in ("taken", "gone"):
                self.remove(entry)
            if verdict in ("taken", "over"):
                return

    def firsts(self) -> Iterator[tuple[Entry[T], int]]:
        """Return the first waiter of each flow, and how many wait in the flow.

        First come the flows that are next in their queues, in the order of the queues; then those that are second.
        """
        queues = [queue.in_turn() for queue in sorted(self._open, key=_order)]
        for row in zip_longest(*queues):
            for flow in row:
                if flow is not None:
                    yield flow.first(), len(flow.entries)

    def _serve(self, entry: Entry[T]) -> None:
        """Let the flow of a waiter that goes now pay for it."""
        flow, queue = entry.flow, entry.flow.queue
        queue.weigh(flow, flow.tenant.part)
        flow.people.serve()
        queue.serve(flow, entry.claim.cost, entry.claim.weight)
        self._pass_over(queue.level)

    def _pass_over(self, served: PriorityLevel) -> None:
        served.passed = 0
        for level in self._levels.values():
            if level.waiting and level.priority < served.priority:
                level.passed += 1

    # Paying

    def charge(self, claim: Claim) -> None:
        """Let a request pay that got a slot without waiting."""
        flow = self._flow(claim, self._tenants.get(claim.tenant) or Tenant(claim.tenant))
        flow.people.charge(claim.person, claim.cost)
        flow.queue.serve(flow, claim.cost, claim.weight)

    def learn(self, claim: Claim, tokens: int) -> None:
        """Note how many `tokens` a request really took, so that the next ones like it pay accordingly."""
        queue = self._queues.get((claim.lane, claim.priority))
        if queue is not None:
            queue.learned.note(claim.cost, tokens)
            if claim.tenant in queue.flows:
                queue.flows[claim.tenant].learned.note(claim.cost, tokens)

    # Estimates

    def ahead(self, claim: Claim) -> Ahead:
        """Return the waiters that would go before a request that comes now."""
        tokens, requests = 0.0, 0
        for queue in self._lanes.get(claim.lane, ()):
            if queue.level.priority > claim.priority:
                tokens += queue.cost
                requests += queue.waiting
        own_queue = self._queues.get((claim.lane, claim.priority))
        if own_queue is None or not own_queue.cost:
            return Ahead(tokens, requests)
        tenant, flow = self._tenants.get(claim.tenant), own_queue.flows.get(claim.tenant)
        flows = tenant.flows if tenant is not None else 0
        own, debt = 0, 0.0
        if flow is None or not flow.entries:
            flows += 1
        if flow is not None:
            own = flow.people.before(claim.person, claim.cost, flow.cost)
            debt = max(0.0, flow.turn - own_queue.clock) / own_queue.learned.ratio
        mean = own_queue.cost / own_queue.waiting
        cost = min(claim.cost, mean)
        before = own_queue.sizes.until(debt + (own + cost) * flows / claim.weight)
        if flow is not None and own < flow.cost:
            before = max(0.0, before - cost)  # in its own flow the request itself stands there, not one before it
        return Ahead(tokens + before, requests + min(own_queue.waiting, round(before / mean)))

    def crowding_out(self, claim: Claim) -> Entry[T] | None:
        """Return the waiter that should give way to `claim` in a full queue.

        That is the last waiter of the tenant with the most waiters for its weight, and of its people the one with the
        most. Where that is the tenant of `claim`, another person's request may give way; None where there is none.
        """
        tenant = self._crowds.largest()
        if tenant is not None and tenant.name != claim.tenant:
            with_it = (self.of_tenant(claim.tenant) + 1) / claim.weight
            if tenant.crowding > with_it:
                return tenant.crowding_out()
        return self.crowding_out_own(claim)

    def crowding_out_own(self, claim: Claim) -> Entry[T] | None:
        """Return the waiter of the same tenant, and of another person, that should give way to `claim`."""
        tenant = self._tenants.get(claim.tenant)
        return None if tenant is None else tenant.crowding_out(claim.person, own=True)

    # Keeping count

    def _flow(self, claim: Claim, tenant: Tenant[T]) -> Flow[T]:
        """Return the flow of `tenant` in the queue of `claim`: the remembered one, or a new one."""
        queue = self._queues.get((claim.lane, claim.priority)) or self._new_queue(claim)
        flow = queue.flows.get(claim.tenant)
        if flow is None:
            flow = queue.flows[claim.tenant] = Flow(tenant, queue)
        elif not flow.entries:
            flow.tenant = tenant
        return flow

    def _new_queue(self, claim: Claim) -> LaneQueue[T]:
        level = self._levels.setdefault(claim.priority, PriorityLevel(claim.priority))
        queue = self._queues[claim.lane, claim.priority] = LaneQueue(claim.lane, level)
        if len(self._queues) > len(self._open) + 2 * REMEMBERED:
            idle = [key for key, queue in self._queues.items() if not queue.active]
            for key in idle[:-REMEMBERED]:
                del self._queues[key]
        return queue

    def _begin(self, flow: Flow[T], number: int) -> None:
        """Note that `flow`, which had no waiters, gets its first one."""
        queue = flow.queue
        if not queue.active:
            self._open[queue] = None
            self._lanes.setdefault(queue.lane, []).append(queue)
        queue.open(flow, number)
        flow.tenant.flows += 1

    def _end(self, flow: Flow[T]) -> None:
        """Note that `flow` has lost its last waiter."""
        queue, tenant = flow.queue, flow.tenant
        queue.close(flow)
        if not queue.active:
            del self._open[queue]
            self._lanes[queue.lane].remove(queue)
            if not self._lanes[queue.lane]:
                del self._lanes[queue.lane]
        tenant.flows -= 1
        if not tenant.flows:
            del self._tenants[tenant.name]

    def _count(self, flow: Flow[T], by: int) -> None:
        queue = flow.queue
        self._length += by
        queue.waiting += by
        queue.level.waiting += by
        if not queue.level.waiting:
            queue.level.passed = 0


def _order(queue: LaneQueue[T]) -> tuple[bool, float, float]:
    return queue.level.passed < PATIENCE, -queue.level.priority, queue.turn
