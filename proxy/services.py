"""The services a plugin may ask for: parameters of these types are handed in, not configured.

State that several instances of a plugin share (one per policy) lives here, never in an instance. What implements the
protocols is made by ``proxy/app.py``; plugins know only these names.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from typing import Final, Protocol, runtime_checkable

from limits.aio.storage import Storage as LimitsStorage

from proxy.exchange import Exchange
from proxy.quotas import Admission, Lease, Level, Quota


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

        Raises StoreUnavailable, and then charges nothing for good.
        """

    @abstractmethod
    def settle(self, lease: Lease, tokens: int) -> Awaitable[None] | None:
        """End `lease`, and count what the request really used in the windows of now. Never raises; once per lease."""

    @abstractmethod
    async def look(self, quotas: Sequence[Quota]) -> tuple[Level, ...]:
        """Return how full every counter is, and charge nothing. Raises StoreUnavailable."""


@runtime_checkable
class Backends(Protocol):
    """What a plugin may know of the pool."""

    def untried(self, exchange: Exchange) -> bool:
        """Whether a usable backend is left that this request was not sent to."""


class RetryBudget:
    """Keeps retries a bounded share of all requests of this process, whatever fails.

    Every request earns a share of a retry and every retry costs one; at most `ceiling` are saved up. A `reserve`, there
    from the start and filled again by `floor` retries a second, lets a quiet proxy retry at all.
    """

    def __init__(self, clock: Clock, *, ceiling: float = 100.0, reserve: float = 10.0, floor: float = 0.1) -> None:
        self._clock = clock
        self._ceiling = ceiling
        self._reserve = reserve
        self._floor = floor
        self._saved = reserve
        self._at = clock.monotonic()

    def earn(self, share: float) -> None:
        """Count one request that may be retried."""
        self._saved = min(self._ceiling, self._saved + share)

    def spend(self) -> bool:
        """Take one retry out of the budget; False where none is left."""
        now = self._clock.monotonic()
        if self._saved < self._reserve:
            self._saved = min(self._reserve, self._saved + (now - self._at) * self._floor)
        self._at = now
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True


class LogSink(Protocol):
    """Where finished log lines go. Never blocks; what it cannot take it drops and counts."""

    def write(self, line: bytes) -> None:
        """Take one line without its newline."""


SERVICES: Final[tuple[type, ...]] = (Clock, Policies, EntryName, Store, Backends, RetryBudget, LogSink)
