"""The parts of a proxy that share something with other proxies, as the fleet sees them."""

from collections.abc import Sequence
from typing import Protocol

from proxy.kernel.shared_line import Demand


class Shared(Protocol):
    """A backend, as far as its slots are shared; `proxy.pool.backend.Backend` implements it."""

    name: str
    place: str  # the URL by which all proxies know it
    slots: int | None
    active: int
    permits: int | None
    contended: bool
    elsewhere: int
    peak: int

    @property
    def ejected(self) -> bool:
        """Whether this proxy ejected it."""


class SharedPool(Protocol):
    """The backends of this proxy; `proxy.pool.fleet_side.FleetSide` implements it."""

    @property
    def backends(self) -> Sequence[Shared]:
        """Those in use."""

    @property
    def leaving(self) -> Sequence[Shared]:
        """Those that a reload took out, while they still run requests."""

    def changed(self) -> None:
        """Note that a request may find a slot."""

    def usual_seconds(self) -> float:
        """Return how many seconds requests usually take, those for the slowest model; 0.0 where unknown."""

    def hint(self, name: str) -> None:
        """Probe the backend of this name soon, as another proxy ejected it."""


class Waiters(Protocol):
    """The requests that wait at this proxy; `proxy.queue.scheduler.FairScheduler` implements it."""

    def demands(self) -> Sequence[Demand]:
        """Return who waits."""

    def granted(self, tenants: Sequence[str]) -> None:
        """Let waiters use what was granted, first one of each of these tenants."""


class SavedRetries(Protocol):
    """The retries that this proxy may use; `proxy.services.fair_retry_budget.FairRetryBudget` implements it."""

    @property
    def saved(self) -> float:
        """Their number."""

    def move(self, by: float) -> None:
        """Add so many, or take so many away."""

    def shared_by(self, proxies: int) -> None:
        """Note how many proxies share the budget."""
