"""The contract between the queue of one proxy and the line of all proxies that share their slots."""

from typing import NamedTuple, Protocol


class Demand(NamedTuple):
    """Requests of one tenant that wait for the same backends.

    Attributes:
        tenant: whose turn they take.
        priority: higher ones go first.
        weight: the tenant's share compared to the shares of others.
        cost: tokens that the first of them is expected to use.
        waiting: their number.
        waited: seconds that the first of them has waited.
        backends: URLs of the backends that could run them if the fleet permitted it, the best first.
    """

    tenant: str
    priority: float
    weight: float
    cost: float
    waiting: int
    waited: float
    backends: tuple[str, ...]


class SharedLine(Protocol):
    """The line of all proxies that share slots, as one of them sees it."""

    @property
    def up(self) -> bool:
        """Whether the slots are shared now; False while this proxy goes on with its own share."""

    @property
    def proxies(self) -> int:
        """How many proxies share them, as last seen, this one included."""

    def changed(self, *, behind: bool = False) -> None:
        """Note that a request waits here for a slot, `behind` others of its tenant."""
