"""A discrete-event simulation of a fleet of proxies that share one Redis: limits, slots and one line.

A request is admitted (its tenant's counters), takes a slot or joins the line, runs, is settled, and gives its slot
back. A slot that comes back while somebody waits is granted by the same command to the proxy whose waiter is first. A
slot that comes back while nobody waits stays at its proxy for a moment (a *permit*), for that proxy's next request. A
proxy that dies leaves its leases to run out.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from typing import Literal

from bench.scale_line import Line, Node, Request

Command = Literal["admit", "settle", "take", "release", "renew", "renew_each"]
Costs = dict[Command, float]
"""Seconds of the server's time by command; ``renew_each`` for each lease of a ``renew``."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is simulated.

    Attributes:
        work: mean seconds that a request holds its slot; they are distributed exponentially.
        load: work that is asked for, as a multiple of what all slots can do.
        greedy: the share of all requests that one tenant sends.
        most_waiting: requests of one tenant that may wait; further ones are refused.
        linger: seconds that a permit stays at its proxy.
        trip: seconds of a round trip to Redis.
        nodes: nodes of Redis; the first has the line, and all of them have tenants' counters.
        lease: seconds after which a lease that nobody renews runs out.
        dying: the share of the proxies that die half way.
        seconds: how long is simulated; the first quarter is not counted.
    """

    name: str
    proxies: int = 100
    hosts: int = 1000
    slots: int = 2
    tenants: int = 10_000
    work: float = 10.0
    load: float = 1.0
    greedy: float = 0.0
    most_waiting: int = 4
    linger: float = 0.1
    trip: float = 0.0005
    nodes: int = 1
    lease: float = 30.0
    dying: float = 0.0
    seconds: float = 600.0
    seed: int = 1

    @property
    def capacity(self) -> int:
        """Slots of all hosts."""
        return self.hosts * self.slots


@dataclass(slots=True)
class Proxy:
    """One proxy: the permits that linger at it, the leases it has, and whether somebody waits, as it was last told."""

    permits: list[int] = field(default_factory=list)
    leases: int = 0
    crowded: bool = False
    alive: bool = True


class Fleet:
    """Runs one plan.

    Attributes:
        nodes: the nodes of Redis.
        leased: leases of each host; never above `Plan.slots`.
        most_leased: the largest number that a host has ever had.
        waits: seconds that each request has waited for its slot.
        trips: round trips that requests have waited for before they began, in all.
        asked: work that each tenant has asked for.
        served: work that each tenant has got.
        finished: requests that were answered to their end.
        refused: requests that found their tenant's places in the line taken.
    """

    def __init__(self, plan: Plan, costs: Costs) -> None:
        self.plan = plan
        self.nodes = [Node() for _ in range(plan.nodes)]
        self.leased = [0] * plan.hosts
        self.most_leased = 0
        self.waits: list[float] = []
        self.trips = 0
        self.asked = [0.0] * plan.tenants
        self.served = [0.0] * plan.tenants
        self.finished = 0
        self.refused = 0
        self._costs = costs
        self._random = random.Random(plan.seed)
        self._proxies = [Proxy() for _ in range(plan.proxies)]
        self._free = [host for host in range(plan.hosts) for _ in range(plan.slots)]
        self._random.shuffle(self._free)
        self._line = Line()
        self._leases: dict[int, tuple[int, int]] = {}
        self._leases_given = 0
        self._running: dict[int, Request] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self.now = 0.0
        self._from = plan.seconds / 4
        self._worked_before = [0.0] * plan.nodes
        self._commands_before = 0

    # The loop

    def run(self) -> None:
        """Simulate until the plan's time is over."""
        plan = self.plan
        self._at(0.0, self._arrive)
        self._at(self._from, self._begin_to_count)
        for proxy in range(plan.proxies):
            self._at(plan.lease / 3 * (proxy + 1) / plan.proxies, partial(self._renew, proxy))
        if plan.dying:
            self._at(plan.seconds / 2, self._die)
        while self._events:
            at, _, do = heappop(self._events)
            if at > plan.seconds:
                break
            self.now = at
            do()
        self.now = plan.seconds
        for request in self._running.values():
            self._note_served(request)

    def _at(self, at: float, do: Callable[[], None]) -> None:
        self._number += 1
        heappush(self._events, (at, self._number, do))

    def _command(self, node: int, command: Command, then: Callable[[], None], extra: float = 0.0) -> None:
        """Send a command; `then` runs at the moment in which the server works it off."""
        arrives = self.now + self.plan.trip / 2
        self._at(arrives, lambda: self._at(self.nodes[node].take(self.now, self._costs[command] + extra), then))

    def _begin_to_count(self) -> None:
        self._worked_before = [node.worked(self.now) for node in self.nodes]
        self._commands_before = sum(node.commands for node in self.nodes)

    # A request

    def _arrive(self) -> None:
        plan, draw = self.plan, self._random
        rate = plan.load * plan.capacity / plan.work
        self._at(self.now + draw.expovariate(rate), self._arrive)
        tenant = 0 if plan.greedy and draw.random() < plan.greedy else draw.randrange(plan.tenants)
        work = draw.expovariate(1 / plan.work)
        proxy = draw.randrange(plan.proxies)
        request = Request(tenant, proxy, work, cost=work * draw.lognormvariate(0, 0.3), arrived=self.now)
        if self.now >= self._from:
            self.asked[tenant] += work
        if not self._proxies[proxy].alive:
            return  # the balancer in front knows
        self._command(tenant % plan.nodes, "admit", lambda: self._reply(lambda: self._want_slot(request)))
        request.trips += 1

    def _reply(self, then: Callable[[], None]) -> None:
        self._at(self.now + self.plan.trip / 2, then)

    def _want_slot(self, request: Request) -> None:
        proxy = self._proxies[request.proxy]
        if proxy.permits and not proxy.crowded and proxy.alive:
            self._start(request, proxy.permits.pop())
            return
        request.trips += 1
        self._command(0, "take", lambda: self._take(request))

    def _take(self, request: Request) -> None:
        """At the server: lease a free slot, or join the line, or be refused."""
        self._tell(request.proxy)
        if self._line.waiting(request.tenant) >= self.plan.most_waiting:
            self.refused += 1
            self._reply(lambda: self._settle(request))
        elif self._free and not len(self._line):
            self._line.charge(request)
            self._grant(request)
        else:
            self._line.push(request)

    def _grant(self, request: Request) -> None:
        """At the server: lease a free slot to a request."""
        host = self._free.pop()
        self._leases_given += 1
        lease = self._leases_given
        self.leased[host] += 1
        self.most_leased = max(self.most_leased, self.leased[host])
        self._leases[lease] = (request.proxy, host)
        proxy = self._proxies[request.proxy]
        proxy.leases += 1
        if proxy.alive:
            self._reply(lambda: self._start(request, lease))
        else:
            self._at(self.now + self.plan.lease, lambda: self._end(lease))

    def _end(self, lease: int) -> None:
        """At the server: end a lease, if it has not ended, and grant its slot to who is first in the line."""
        if lease not in self._leases:
            return
        proxy, host = self._leases.pop(lease)
        self._proxies[proxy].leases -= 1
        self.leased[host] -= 1
        self._free.append(host)
        if len(self._line):
            request = self._line.pop()
            self._grant(request)
            self._tell(request.proxy)

    def _tell(self, proxy: int) -> None:
        """Let the reply say whether somebody waits."""
        crowded = len(self._line) > 0
        self._reply(lambda: setattr(self._proxies[proxy], "crowded", crowded))

    def _start(self, request: Request, lease: int) -> None:
        if not self._proxies[request.proxy].alive:
            return  # it died meanwhile
        request.started = self.now
        self._running[lease] = request
        if self.now >= self._from:
            self.waits.append(self.now - request.arrived)
            self.trips += request.trips
        self._at(self.now + request.work, lambda: self._finish(request, lease))

    def _finish(self, request: Request, lease: int) -> None:
        if self._running.pop(lease, None) is None:
            return  # its proxy has died
        self._note_served(request)
        self.finished += self.now >= self._from
        self._settle(request)
        proxy = self._proxies[request.proxy]
        if proxy.crowded or not self.plan.linger:
            self._release(request.proxy, lease)
        else:
            proxy.permits.append(lease)
            self._at(self.now + self.plan.linger, lambda: self._expire(request.proxy, lease))

    def _settle(self, request: Request) -> None:
        self._command(request.tenant % self.plan.nodes, "settle", lambda: None)

    def _note_served(self, request: Request) -> None:
        self.served[request.tenant] += max(0.0, self.now - max(self._from, request.started))

    def _expire(self, proxy: int, lease: int) -> None:
        if lease in self._proxies[proxy].permits:
            self._proxies[proxy].permits.remove(lease)
            self._release(proxy, lease)

    def _release(self, proxy: int, lease: int) -> None:
        def at_server() -> None:
            self._end(lease)
            self._tell(proxy)

        if self._proxies[proxy].alive:
            self._command(0, "release", at_server)

    # Proxies

    def _renew(self, proxy: int) -> None:
        one = self._proxies[proxy]
        if one.alive:
            extra = one.leases * self._costs["renew_each"]
            self._command(0, "renew", lambda: self._tell(proxy), extra)
            self._at(self.now + self.plan.lease / 3, lambda: self._renew(proxy))

    def _die(self) -> None:
        """Let proxies die: what runs at them is lost, and their leases run out."""
        dead = range(round(self.plan.dying * self.plan.proxies))
        for proxy in dead:
            self._proxies[proxy].alive = False
            self._proxies[proxy].permits.clear()
        for lease, (proxy, _) in self._leases.items():
            if proxy in dead:
                self._at(self.now + self.plan.lease, partial(self._end, lease))
                request = self._running.pop(lease, None)
                if request is not None:
                    self._note_served(request)

    # Results

    @property
    def counted(self) -> float:
        """Seconds that were counted."""
        return self.now - self._from

    @property
    def load(self) -> list[float]:
        """The share of its time for which each node has worked."""
        worked = zip(self.nodes, self._worked_before, strict=True)
        return [(node.worked(self.now) - before) / self.counted for node, before in worked]

    @property
    def commands(self) -> int:
        """Commands that were worked off while it was counted."""
        return sum(node.commands for node in self.nodes) - self._commands_before

    @property
    def slot_use(self) -> float:
        """The work that was done, as a share of what all slots could do."""
        return sum(self.served) / (self.plan.capacity * self.counted)

    @property
    def fairness(self) -> float:
        """Jain's index of what each tenant got of what it could claim: what it asked for, or an equal share."""
        share = self.plan.capacity * self.counted / self.plan.tenants
        got = [min(1.0, had / min(want, share)) for had, want in zip(self.served, self.asked, strict=True) if want]
        return sum(got) ** 2 / (len(got) * sum(one * one for one in got)) if any(got) else 0.0
