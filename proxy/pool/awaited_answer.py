"""A request that waits for the first byte of its answer, and that may be told to wait no longer."""

import asyncio

from proxy.kernel.errors import BackendDown
from proxy.kernel.exchange import Exchange


class AwaitedAnswer:
    """A request that waits for its first byte at one backend.

    Args:
        exchange: the request.
        movable: it may be sent again, to another backend.

    Attributes:
        limit: the time-out around the wait, whatever its time is; None before and after the wait. It refers to the
            task, so that a request that fails would not be freed if it stayed here.
        since: when the wait began, by the loop's time.
    """

    __slots__ = ("_down", "exchange", "limit", "movable", "since")

    def __init__(self, exchange: Exchange, *, movable: bool) -> None:
        self.exchange = exchange
        self.movable = movable
        self.since = asyncio.get_running_loop().time()
        self.limit: asyncio.Timeout | None = None
        self._down: str | None = None

    def call_off(self, reason: str) -> None:
        """End the wait, as the backend is down for `reason`."""
        if self._down is None and self.limit is not None and not self.limit.expired():
            self._down = reason
            self.limit.reschedule(self.since)  # a time that has passed

    def failure(self) -> BackendDown | None:
        """Return the error of a wait that was called off, None of one whose own time ran out."""
        return None if self._down is None else BackendDown(self._down)
