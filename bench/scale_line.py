"""The parts of the simulated fleet: a Redis node that works off one command after another, and the line."""

from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush


class Node:
    """One Redis node, which has one thread.

    Attributes:
        commands: commands that it was sent.
    """

    def __init__(self) -> None:
        self.commands = 0
        self._free_at = 0.0
        self._work = 0.0

    def take(self, at: float, cost: float) -> float:
        """Take a command that arrives `at`, and return when it has worked it off."""
        self._free_at = max(self._free_at, at) + cost
        self._work += cost
        self.commands += 1
        return self._free_at

    def worked(self, now: float) -> float:
        """Return the seconds for which it has worked by now."""
        return self._work - max(0.0, self._free_at - now)


@dataclass(slots=True)
class Request:
    """One request of a tenant, at the proxy that has it.

    Attributes:
        work: seconds that it holds a slot.
        cost: what it was expected to take, in the same unit.
        trips: round trips that it has waited for.
    """

    tenant: int
    proxy: int
    work: float
    cost: float
    arrived: float
    started: float = -1.0
    trips: int = 0


@dataclass(slots=True)
class _Tenant:
    time: float = 0.0
    waiting: deque[Request] = field(default_factory=deque)


class Line:
    """One line for all proxies: the tenant with the least virtual time goes next (start-time fair queueing)."""

    def __init__(self) -> None:
        self._tenants: dict[int, _Tenant] = {}
        self._order: list[tuple[float, int, int]] = []
        self._joined = 0
        self._now = 0.0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def waiting(self, tenant: int) -> int:
        """Return how many requests of a tenant wait."""
        known = self._tenants.get(tenant)
        return len(known.waiting) if known is not None else 0

    def push(self, request: Request) -> None:
        """Let a request wait."""
        tenant = self._tenants.setdefault(request.tenant, _Tenant())
        if not tenant.waiting:
            tenant.time = max(tenant.time, self._now)
            self._put(request.tenant, tenant)
        tenant.waiting.append(request)
        self._length += 1

    def pop(self) -> Request:
        """Take out the request whose turn it is."""
        self._now, _, name = heappop(self._order)
        tenant = self._tenants[name]
        request = tenant.waiting.popleft()
        tenant.time += request.cost
        if tenant.waiting:
            self._put(name, tenant)
        self._length -= 1
        return request

    def charge(self, request: Request) -> None:
        """Let a request pay that got a slot without waiting."""
        tenant = self._tenants.setdefault(request.tenant, _Tenant())
        tenant.time = max(tenant.time, self._now) + request.cost

    def _put(self, name: int, tenant: _Tenant) -> None:
        self._joined += 1
        heappush(self._order, (tenant.time, self._joined, name))
