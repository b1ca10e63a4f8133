"""The order in which entries are claimed: by priority, and within one priority the tenants take turns.

Each tenant has a virtual time, which grows by cost / weight with every entry that is claimed; the tenant with the
least goes next (start-time fair queueing: Goyal, Vin, Cheng, SIGCOMM 1996). A tenant that had nothing waiting begins
where the others are, or where it was if that is further: it can neither save up turns nor shake off what it has had.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """An entry that waits.

    Attributes:
        number: grows with every entry; within a tenant and a priority the lower one goes first.
        cost: what the entry is expected to take, in tokens.
        weight: the tenant's share.
        ready_at: when it may be claimed, in seconds of the caller's clock; 0 for at once.
    """

    id: str
    tenant: str
    number: int
    priority: int = 0
    cost: int = 1
    weight: float = 1.0
    ready_at: float = 0.0

    @property
    def key(self) -> tuple[int, int]:
        """Return what sorts the entries of one tenant."""
        return (-self.priority, self.number)

    @property
    def span(self) -> float:
        """Return the virtual time that the entry takes."""
        return max(self.cost, 1) / self.weight


class _Tenant:
    """The entries of one tenant that may be claimed, first one first."""

    __slots__ = ("time", "waiting")

    def __init__(self, time: float) -> None:
        self.time = time
        self.waiting: list[tuple[tuple[int, int], str]] = []


class Turns:
    """The entries that wait, in the order of their turns."""

    def __init__(self) -> None:
        self._turns: dict[str, Turn] = {}
        self._tenants: dict[str, _Tenant] = {}
        self._later: list[tuple[float, str]] = []
        self._ahead: dict[str, float] = {}
        """The times of tenants that have nothing waiting and are ahead of the others."""
        self._now = 0.0
        """The virtual time of the tenant that went last."""

    def add(self, turn: Turn) -> None:
        """Let an entry wait; one that waits already is put in anew."""
        self.remove(turn.id)
        self._turns[turn.id] = turn
        if turn.ready_at:
            insort(self._later, (turn.ready_at, turn.id))
        else:
            self._wait(turn)

    def remove(self, id: str) -> Turn | None:
        """Take an entry out, wherever it stands; return it, None where it does not wait."""
        turn = self._turns.pop(id, None)
        if turn is None:
            return None
        tenant = self._tenants.get(turn.tenant)
        place = (turn.key, id)
        if tenant is not None:
            index = bisect_left(tenant.waiting, place)
            if tenant.waiting[index : index + 1] == [place]:
                del tenant.waiting[index]
                self._forget(turn.tenant, tenant)
                return turn
        self._later.remove((turn.ready_at, id))
        return turn

    def next(self, now: float) -> Turn | None:
        """Take out the entry whose turn it is, and charge its tenant; None where none is ready."""
        while self._later and self._later[0][0] <= now:
            self._wait(self._turns[self._later.pop(0)[1]])
        if not self._tenants:
            return None
        tenant = min(self._tenants.values(), key=lambda one: (one.waiting[0][0][0], one.time, one.waiting[0][0][1]))
        turn = self._turns.pop(tenant.waiting.pop(0)[1])
        self._now = max(self._now, tenant.time)
        tenant.time += turn.span
        self._forget(turn.tenant, tenant)
        return turn

    def give_back(self, turn: Turn) -> None:
        """Take back what a claim has charged: the entry did not run. To be called while the entry waits again."""
        tenant = self._tenants.get(turn.tenant)
        if tenant is not None:
            tenant.time = max(0.0, tenant.time - turn.span)

    def position(self, id: str) -> int | None:
        """Return how many entries of the same tenant go before this one; None where it does not wait."""
        turn = self._turns.get(id)
        if turn is None:
            return None
        tenant = self._tenants.get(turn.tenant)
        return bisect_left(tenant.waiting, (turn.key, id)) if tenant is not None else 0

    def ready_in(self, now: float) -> float | None:
        """Return the seconds until an entry may be claimed; None where none waits."""
        if self._tenants:
            return 0.0
        return max(0.0, self._later[0][0] - now) if self._later else None

    def _wait(self, turn: Turn) -> None:
        tenant = self._tenants.get(turn.tenant)
        if tenant is None:
            tenant = self._tenants[turn.tenant] = _Tenant(max(self._now, self._ahead.pop(turn.tenant, 0.0)))
        insort(tenant.waiting, (turn.key, turn.id))

    def _forget(self, name: str, tenant: _Tenant) -> None:
        """Drop a tenant that has nothing waiting; once nobody has, all begin anew."""
        if tenant.waiting:
            return
        del self._tenants[name]
        if not self._tenants:
            self._now = 0.0
            self._ahead.clear()
        elif tenant.time > self._now:
            self._ahead[name] = tenant.time
            if len(self._ahead) > 2 * len(self._tenants) + 1000:
                self._ahead = {name: time for name, time in self._ahead.items() if time > self._now}

    def __len__(self) -> int:
        return len(self._turns)
