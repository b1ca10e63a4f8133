"""The contracts of waiting for a slot: slots of the pool, terms of a request, and the scheduler between them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import NamedTuple, Protocol, runtime_checkable

from proxy.kernel.attempts import Held
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange


@runtime_checkable
class Slots(Protocol):
    """Leases slots of the pool to a scheduler, and says when one may be free."""

    async def settled(self, exchange: Exchange) -> None:
        """Wait until a backend is known to have the model of this request, or every backend was asked for its models.

        That takes time only after the start, and after a reload that added a backend.
        """

    def try_lease(self, exchange: Exchange, *, waiting: int = 0) -> Held | str:
        """Lease a slot of the best backend for `exchange` now; where waiting is better, return the reason.

        The reason is ``slots`` where all slots are taken, and ``warm`` where a backend has the model in memory.
        `waiting` counts the requests that wait for the same model, this one included. Raises Refused where waiting
        is no use.
        """

    def any_free(self, *, if_asked: bool = False) -> bool:
        """Return False where every slot of every backend is taken, so that `try_lease` can lease none.

        With `if_asked` a slot counts too that the proxies which share it would permit if they were asked.
        """

    def wanted(self, exchange: Exchange) -> tuple[str, ...]:
        """Return the backends for which this request needs a permit of all proxies that share slots, the best first.

        They are URLs; none where the slots are not shared.
        """

    def lane(self, exchange: Exchange) -> Hashable:
        """Return the key of interchangeable requests: if `try_lease` has no slot for one, it has none for any."""

    def on_free(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever a waiting request may find a slot; at most once a turn of the loop."""

    def service_time(self, exchange: Exchange) -> float | None:
        """Return the recent average of seconds that requests like this one hold a slot; None if unknown."""

    def capacity(self, exchange: Exchange) -> int | None:
        """Return how many requests like this one can run at once; None for no bound."""


class Terms(NamedTuple):
    """The terms on which a request waits for a slot.

    Attributes:
        tenant: whose turn the request takes; tenants take turns.
        cost: tokens that the request is expected to use.
        depth: requests in the queue from which on this one is refused, unless another tenant exceeds its share of them.
        wait: seconds that the request waits at most.
        weight: the tenant's share compared to the shares of others.
        priority: requests of a higher priority go first; 0 is usual.
        depth_per_tenant: requests of its tenant from which on this one is refused; None for no such bound.
        deadline: the time, by `Clock.monotonic`, when the answer must be complete; None for never.
        person: the person of the tenant for whom it waits; people of one tenant take turns. None where none is named.
    """

    tenant: str
    cost: int
    depth: int
    wait: float
    weight: float = 1.0
    priority: int = 0
    depth_per_tenant: int | None = None
    deadline: float | None = None
    person: str | None = None


class Outlook(NamedTuple):
    """The forecast for a request that would arrive now and find no free slot.

    Attributes:
        position: its place in the queue, counted from 1.
        seconds: how long it would wait; None if unknown.
        refusal: the refusal it would get; None where it may wait.
    """

    position: int
    seconds: float | None
    refusal: Refused | None


class Scheduler(ABC):
    """Lets requests wait for slots, and decides whose turn it is."""

    @abstractmethod
    async def enter(self, exchange: Exchange, terms: Terms) -> None:
        """Wait for a slot and put its lease at ``exchange.lease``. Call `leave` afterwards, whatever happened.

        Raises Refused where the queue has no room (429, 503), where the turn would not come in time (503, at once),
        and where it did not come in time (503).
        """

    @abstractmethod
    async def again(self, exchange: Exchange) -> None:
        """Wait like `enter`, at the head of the queue, for a further attempt of a request that entered before."""

    @abstractmethod
    def leave(self, exchange: Exchange) -> None:
        """End what `enter` began: give back an unused lease, and learn how much the request really used."""

    @abstractmethod
    def outlook(self, exchange: Exchange, terms: Terms) -> Outlook:
        """Return the forecast for a request without a free slot; change nothing."""
