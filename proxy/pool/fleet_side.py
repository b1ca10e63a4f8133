"""The pool as the fleet sees it: what all proxies on one Redis share of it (`proxy.fleet`)."""

from collections.abc import Sequence
from math import inf

from proxy.pool.backend import Backend
from proxy.pool.pool import Pool
from proxy.pool.probes import Probes


class FleetSide:
    """The backends whose slots are shared.

    Args:
        pool: has them.
        probes: probes them.
    """

    def __init__(self, pool: Pool, probes: Probes) -> None:
        self._pool, self._probes = pool, probes

    @property
    def backends(self) -> Sequence[Backend]:
        """Those in use."""
        return self._pool.backends

    @property
    def leaving(self) -> Sequence[Backend]:
        """Those that a reload took out, while they still run requests."""
        return self._pool.retired

    def changed(self) -> None:
        """Note that a request may find a slot."""
        self._pool.changed()

    def hint(self, name: str) -> None:
        """Probe the backend of this name soon, as another proxy ejected it."""
        if (backend := self._pool.named(name)) is not None:
            self._probes.refresh(backend)

    def usual_seconds(self) -> float:
        """Return how many seconds requests usually hold a slot, those for the slowest model; 0.0 where unknown."""
        return max((seconds for _, seconds in self._pool.outcomes.service_times.since(-inf)), default=0.0)
