"""What a storm over a fleet consists of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

HOSTS: Final = 3
PROXIES: Final = 3
SHARES: Final[Mapping[str, int]] = {"tenant-0": 40, "tenant-1": 25, "tenant-2": 15, "tenant-3": 10, "tenant-4": 10}
"""Per cent of the clients that each tenant has: fairness is worth something where they differ."""
METERED: Final = "tenant-4"
"""The tenant with a limit of requests; no other has one."""
WINDOW: Final = 60.0
"""Seconds that the limit speaks of."""
TOKEN_DELAY: Final = 0.1
TOKENS: Final = (3, 10)
"""Tokens of an answer, the fewest and the most: 0.3 to 1 s."""
CYCLE: Final = 45.0
LULL: Final = 15.0
"""Of so many seconds, so many at their end in which only few clients ask, so that what was deferred gets its turn."""
FEW: Final = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """One storm.

    Attributes:
        seconds: how long the clients ask.
        slots: requests that each host may run.
        limit: requests that the metered tenant may send in `WINDOW`.
    """

    seconds: float
    seed: int
    clients: int
    slots: int
    limit: int

    @property
    def capacity(self) -> int:
        """The slots of all hosts."""
        return self.slots * HOSTS

    def tenants(self) -> list[str]:
        """Return the tenant of each client; each has one at least."""
        found = [tenant for tenant, share in SHARES.items() for _ in range(max(1, round(self.clients * share / 100)))]
        return (found + ["tenant-0"] * self.clients)[: max(self.clients, len(SHARES))]
