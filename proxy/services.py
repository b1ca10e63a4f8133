"""The services a plugin may ask for: parameters of these types are handed in, not configured.

State that several instances of a plugin share (one per policy) lives here, never in an instance. What implements the
protocols is made by ``proxy/app.py``; plugins know only these names.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

from limits.aio.storage import Storage as LimitsStorage

from proxy.exchange import Exchange
from proxy.quotas import Admission, Level, Quota


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


class Store(ABC):
    """Counters shared by every instance, worker and machine that names the same store."""

    url: str
    """Where it is, without credentials; for prints."""

    @property
    @abstractmethod
    def limits(self) -> LimitsStorage:
        """The storage for the strategies of the `limits` library."""

    @abstractmethod
    async def admit(self, quotas: Sequence[Quota]) -> Admission:
        """Let one request through and charge every quota, or say which have no room and charge none; atomic."""

    @abstractmethod
    async def look(self, quotas: Sequence[Quota]) -> tuple[Level, ...]:
        """Return how full every counter is, and charge nothing."""

    @abstractmethod
    async def aclose(self) -> None:
        """Give back connections."""


@runtime_checkable
class Backends(Protocol):
    """What a plugin may know of the pool."""

    def untried(self, exchange: Exchange) -> bool:
        """Whether a usable backend is left that this request was not sent to."""


class RetryBudget:
    """Keeps retries a bounded share of all requests of this process, whatever fails.

    Every request earns `ratio` of a retry and every retry costs one; at most `ceiling` are saved up, and `floor`
    retries a second are there in any case, so that a quiet proxy can retry at all.
    """

    def __init__(self, clock: Clock, *, ceiling: float = 100.0, floor: float = 0.2) -> None:
        self._clock = clock
        self._ceiling = ceiling
        self._floor = floor
        self._saved = 2.0
        self._at = clock.monotonic()

    def earn(self, ratio: float) -> None:
        """Count one request that may be retried."""
        self._saved = min(self._ceiling, self._saved + ratio)

    def spend(self) -> bool:
        """Take one retry out of the budget; False where none is left."""
        now = self._clock.monotonic()
        self._saved = min(self._ceiling, self._saved + (now - self._at) * self._floor)
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
