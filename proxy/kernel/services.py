"""The services a plugin may ask for: parameters of these types are handed in, not configured.

State that several instances of a plugin share (one per policy) lives here, never in an instance. What implements the
protocols is made by ``proxy/app.py``; plugins know only these names.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar, cast, runtime_checkable
from weakref import WeakValueDictionary

from limits.aio.storage import Storage as LimitsStorage

from proxy.kernel.attempts import Held
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.known_hosts import KnownHosts
from proxy.kernel.model_names import ModelName
from proxy.kernel.quotas import Admission, Lease, Level, Quota

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

T = TypeVar("T")

ALONE: Final = 60.0
"""Seconds without a request of anybody else from which on one caller may take all retries that are saved."""
ACCOUNTS: Final = 1000
"""Callers whose part in the retry budget is known; beyond that those of whom nothing runs are forgotten."""


class Clock:
    """Time, so that tests can bend it. Seconds."""

    def monotonic(self) -> float:
        """Seconds that never step back; for measuring."""
        return time.monotonic()

    def time(self) -> float:
        """Seconds since 1970; for stamps and for windows shared between machines."""
        return time.time()


class Policies(frozenset[str]):
    """The names of all policies that the configuration knows."""


class EntryName(str):
    """The name under which the plugin stands in the policy file; what its counters and messages are called by."""


class Keepsakes:
    """What plugins learned while they ran, and find again when a new policy file is put in force.

    An object is kept for as long as a plugin holds it; the old chain holds its own until the new one is built.
    """

    def __init__(self) -> None:
        self._kept: WeakValueDictionary[Hashable, object] = WeakValueDictionary()

    def keep(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the object of that key, or what `make` returns where nobody holds one.

        What is kept must depend on nothing that the key does not say.
        """
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = make()
        return cast(T, found)


class StoreUnavailable(Exception):
    """The store did not answer in time, or refused; whoever asked has its own rule for that."""


class Store(ABC):
    """Counters shared by every instance, worker and machine that names the same store.

    Attributes:
        url: where it is, without credentials; for prints.
        local: counters of this process, for as long as this store cannot be reached; a store in memory is its own.
    """

    url: str
    local: "Store"

    @property
    @abstractmethod
    def limits(self) -> LimitsStorage:
        """The storage for the strategies of the `limits` library."""

    @abstractmethod
    async def connect(self) -> None:
        """Get ready ahead of the first request. Not being able to is no error here, but one of each call."""

    @abstractmethod
    async def aclose(self) -> None:
        """Give back connections."""

    @abstractmethod
    async def admit(self, quotas: Sequence[Quota], tokens: int = 0) -> Admission:
        """Let one request through and charge every quota, or charge none and say which are full.

        One decision: no other one comes between what is found and what is charged. A counter with anything left takes
        the request, so that tokens may pass their amount by what one request uses.

        Args:
            quotas: what the request falls under, each of its own key.
            tokens: what the request is expected to use, counted in every token window until `settle`.

        Raises StoreUnavailable. Then nothing is held, or not for long, but the request may have been counted.
        """

    @abstractmethod
    def settle(self, lease: Lease, tokens: int) -> Awaitable[None] | None:
        """End `lease`, and count what the request really used in the windows of now. Never raises; once per lease."""

    @abstractmethod
    async def look(self, quotas: Sequence[Quota]) -> tuple[Level, ...]:
        """Return how full every counter is, and charge nothing. Raises StoreUnavailable."""

    async def known(self, quotas: Sequence[Quota]) -> tuple[Level, ...]:
        """Return how full counters are as far as this process knows it for sure, and ask nobody else.

        Those of which it is not known are left out, so that nothing at all says nothing. Raises StoreUnavailable.
        """
        return ()


@runtime_checkable
class Backends(Protocol):
    """What a plugin may know of the pool."""

    def untried(self, exchange: Exchange, *, ejected: bool = False) -> bool:
        """Whether a usable backend is left that this request was not sent to; or an `ejected` one that has room."""

    def serves(self, exchange: Exchange, model: ModelName | None = None) -> bool:
        """Whether a usable backend has, or may have, what this request asks for, or `model` in its place."""


@runtime_checkable
class Slots(Protocol):
    """What a scheduler needs of the pool: slots, and when one may be free."""

    def try_lease(self, exchange: Exchange, *, waiting: int = 0) -> Held | str:
        """Lease the best backend that has a slot for `exchange` now; where waiting is better, return what for.

        That is ``slots`` where all are taken, and ``warm`` where a backend has the model in memory. `waiting` says how
        many requests wait for the same model, this one included. Raises Refused where waiting is no use.
        """

    def any_free(self) -> bool:
        """Whether it makes sense at all to ask: False where every slot there is is taken."""

    def lane(self, exchange: Exchange) -> Hashable:
        """Return what makes requests interchangeable: where `try_lease` has nothing for one, it has nothing for any."""

    def on_free(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever a request that had to wait may find a place now; not more than once a turn."""

    def service_time(self, exchange: Exchange) -> float | None:
        """Return the trend of the seconds that requests like this one hold a slot; None where it is not known."""

    def capacity(self, exchange: Exchange) -> int | None:
        """Return how many requests like this one can run at once; None for no bound."""


class Terms(NamedTuple):
    """How a request waits for a slot.

    Attributes:
        tenant: who has one turn among all.
        cost: tokens it is expected to take.
        weight: the tenant's share compared to the others'.
        priority: higher ones go first; 0 is the usual one.
        depth: it is refused where so many wait, unless another tenant has more than its share of them.
        depth_per_tenant: it is refused where so many of its tenant wait; None for no such bound.
        wait: seconds it waits at most.
        deadline: by `Clock.monotonic`, when its answer must be complete; None for never.
    """

    tenant: str
    cost: int
    weight: float = 1.0
    priority: int = 0
    depth: int = 200
    depth_per_tenant: int | None = None
    wait: float = 60.0
    deadline: float | None = None


class Outlook(NamedTuple):
    """What a request has to expect that comes now and finds no free slot.

    Attributes:
        position: how many go before it, and it.
        seconds: how long it will wait, None where that is not known.
        refusal: what it is refused with; None where it may wait.
    """

    position: int
    seconds: float | None
    refusal: Refused | None


class Scheduler(ABC):
    """Where requests wait for slots."""

    @abstractmethod
    async def enter(self, exchange: Exchange, terms: Terms) -> None:
        """Wait for a slot and note its lease in `QueuePart`. Call `leave` afterwards, whatever happened.

        Raises Refused where there is no room (429, 503), and where its turn would not come (at once) or did not (503).
        """

    @abstractmethod
    async def again(self, exchange: Exchange) -> None:
        """Like `enter`, at the head of the line, for a further attempt of a request that entered before."""

    @abstractmethod
    def leave(self, exchange: Exchange) -> None:
        """End what `enter` began: give back a lease that nobody used, and learn what the request really took."""

    @abstractmethod
    def outlook(self, exchange: Exchange, terms: Terms) -> Outlook:
        """Say what would happen to a request without a free slot; nothing is done."""


@dataclass(slots=True)
class _Account:
    """One caller's part in the budget: requests that run, retries taken from the savings, retries owed."""

    running: int = 0
    taken: float = 0.0
    owed: float = 0.0


class RetryBudget:
    """Keeps retries a bounded share of all requests of this process, whatever fails.

    Every request earns a share of a retry and every retry costs one; at most `ceiling` are saved up. A `reserve`, there
    from the start and filled again by `floor` retries a second, lets a quiet proxy retry at all. When a host dies,
    everything that it was running has to go elsewhere at once: up to one retry for each request that runs may be owed.

    While others ask too, one caller may take half of what is saved, beyond what its own requests earned. It may owe as
    many as run of its own; what the worst debtor owes stands in nobody else's way. None stands for callers that are not
    told apart.
    """

    def __init__(self, clock: Clock, *, ceiling: float = 100.0, reserve: float = 10.0, floor: float = 1.0) -> None:
        self._clock = clock
        self._ceiling = ceiling
        self._reserve = reserve
        self._floor = floor
        self._saved = reserve
        self._running = 0
        self._at = clock.monotonic()
        self._accounts: dict[str | None, _Account] = {}
        self._latest: str | None = None  # who asked last
        self._mixed_at = float("-inf")  # when somebody else asked than before

    def earn(self, share: float, caller: str | None = None) -> None:
        """Count one request of `caller` that may be retried, and runs until `done`."""
        account = self._account(caller)
        if caller != self._latest:
            if self._latest is not None:
                self._mixed_at = self._clock.monotonic()
            self._latest = caller
        account.running += 1
        self._running += 1
        repaid = min(share, account.owed)
        account.owed -= repaid
        account.taken = max(0.0, account.taken - (share - repaid))
        self._saved = min(self._ceiling, self._saved + share - repaid)

    def done(self, caller: str | None = None) -> None:
        """Count one request of `caller` less that runs."""
        account = self._account(caller)
        account.running -= 1
        self._running -= 1
        if account.running <= 0 and account.taken <= 0.0 and account.owed <= 0.0:
            del self._accounts[caller]

    def spend(self, caller: str | None = None) -> bool:
        """Take one retry for a request of `caller` out of the budget; False where none is left for it."""
        self._pass_time()
        account = self._account(caller)
        alone = caller is None or self._at - self._mixed_at > ALONE
        if self._saved >= 1.0 and (alone or account.taken + 1.0 <= (self._saved + account.taken) / 2):
            self._saved -= 1.0
            account.taken += 1.0
            return True
        others = {key: other.owed for key, other in self._accounts.items() if key != caller}
        worst = max((owed for key, owed in others.items() if key is not None), default=0.0)
        owed = account.owed + sum(others.values()) - worst
        if account.owed + 1.0 <= account.running and owed + 1.0 <= self._running:
            account.owed += 1.0
            return True
        return False

    def _account(self, caller: str | None) -> _Account:
        account = self._accounts.get(caller)
        if account is None:
            if len(self._accounts) >= ACCOUNTS:
                self._close_accounts()
            account = self._accounts[caller] = _Account()
        return account

    def _pass_time(self) -> None:
        """Let time pay what is owed, then fill the reserve; half as fast as that it forgets what was taken."""
        now = self._clock.monotonic()
        paid = (now - self._at) * self._floor
        self._at = now
        for account in self._accounts.values():
            repaid = min(paid, account.owed)
            account.owed -= repaid
            paid -= repaid
        for account in self._accounts.values():
            account.taken = max(0.0, account.taken - paid / 2)
        if self._saved < self._reserve:
            self._saved = min(self._reserve, self._saved + paid)

    def _close_accounts(self) -> None:
        """Forget the callers of whom nothing runs: there are too many of them."""
        self._accounts = {caller: account for caller, account in self._accounts.items() if account.running > 0}


class LogSink(Protocol):
    """Where finished log lines go. Never blocks; what it cannot take it drops and counts."""

    dropped: int = 0
    """Lines lost since the start."""

    def write(self, line: bytes) -> None:
        """Take one line without its newline."""


class Metrics(ABC):
    """What became of all requests so far, in numbers."""

    @abstractmethod
    def count(self, exchange: Exchange) -> None:
        """Count a request that is over."""

    def not_let_in(self, credential: str, reason: str) -> None:  # noqa: B027  (whoever counts only requests need not)
        """Count a caller who is not let in, by the kind of what he presented and by why; both from a fixed list."""

    @abstractmethod
    async def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Return all numbers as Prometheus reads them, and the Content-Type of that.

        Args:
            accept: the Accept header of who asks: it may want OpenMetrics.
        """


class Collector(NamedTuple):
    """Where spans are sent, and which.

    Attributes:
        endpoint: URL, without credentials.
        headers: sent along; they may be secret.
        service: what the proxy is called there.
        sample: the share of traces that is recorded, up to 1.
    """

    endpoint: str
    headers: tuple[tuple[str, str], ...]
    service: str
    sample: float

    def __repr__(self) -> str:
        return f"<Collector at {self.endpoint}>"


class Traces(ABC):
    """Sends spans away in the background."""

    @abstractmethod
    def tracer(self, collector: Collector) -> "Tracer":
        """Return what makes spans for `collector`: a tracer of OpenTelemetry, whose packages must be there."""


SERVICES: Final[tuple[type, ...]] = (
    Clock,
    Policies,
    EntryName,
    KnownHosts,
    Keepsakes,
    Store,
    Backends,
    Slots,
    Scheduler,
    RetryBudget,
    LogSink,
    Metrics,
    Traces,
)
