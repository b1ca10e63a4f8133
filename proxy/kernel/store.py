"""The contract of a store: counters that instances, workers and machines may share."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence

from limits.aio.storage import Storage as LimitsStorage

from proxy.kernel.quotas import Admission, Lease, Level, Quota


class StoreUnavailable(Exception):
    """The store refused, or did not answer in time. Each caller of a store has its own rule for that."""


class Store(ABC):
    """Counts for every instance, worker and machine that names the same store.

    Attributes:
        url: the store's address without credentials; for prints.
        local: counters of this process, used while this store cannot be reached; a store in memory names itself.
    """

    url: str
    local: "Store"

    @property
    @abstractmethod
    def limits(self) -> LimitsStorage:
        """The storage for the strategies of the `limits` library."""

    @abstractmethod
    async def connect(self) -> None:
        """Connect ahead of the first request. A store that cannot be reached raises only in the calls that need it."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections."""

    @abstractmethod
    async def admit(self, quotas: Sequence[Quota], tokens: int = 0) -> Admission:
        """Admit one request and charge every quota, or charge none and name the full ones.

        The decision is atomic: no other request is admitted between the look and the charge. A counter with anything
        left takes the request, so tokens may exceed their amount by what one request uses.

        Args:
            quotas: the quotas that the request falls under, each with its own key.
            tokens: the tokens that the request is expected to use; every token window counts them until `settle`.

        Raises StoreUnavailable. Then the request holds nothing, or not for long, but it may have been counted.
        """

    @abstractmethod
    def settle(self, lease: Lease, tokens: int) -> Awaitable[None] | None:
        """End `lease`, and count the tokens really used in the windows of now. Call it once a lease; never raises."""

    @abstractmethod
    async def look(self, quotas: Sequence[Quota]) -> tuple[Level, ...]:
        """Return how full every counter is, and charge nothing. Raises StoreUnavailable."""

    @abstractmethod
    async def known(self, quotas: Sequence[Quota]) -> tuple[Level, ...]:
        """Return how full counters are, as far as this process is sure of it without asking anybody else.

        Counters that this process is not sure of are left out. Raises StoreUnavailable.
        """
