"""An event loop's clock and timers without the loop: time moves when a test says so."""

import asyncio
import heapq
from collections.abc import Callable
from typing import cast


class Handle:
    """A timer that is set."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class FakeLoop:
    """The part of an event loop that tells the time, and makes futures that nobody waits for."""

    def __init__(self) -> None:
        self._now = 0.0
        self._timers: list[tuple[float, int, Handle]] = []
        self.handles = 0
        """How many timers were ever set."""

    def as_loop(self) -> asyncio.AbstractEventLoop:
        """Return it under the type that the code under test asks for."""
        return cast(asyncio.AbstractEventLoop, self)

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[bytes]:
        return asyncio.Future(loop=self.as_loop())

    def call_at(self, when: float, callback: Callable[[], object]) -> Handle:
        handle = Handle(callback)
        self.handles += 1
        heapq.heappush(self._timers, (when, self.handles, handle))
        return handle

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, running what becomes due at its time."""
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            when, _, handle = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            if handle.callback is not None:
                handle.callback()
        self._now = end
