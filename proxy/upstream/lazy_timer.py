"""A timer for deadlines that move all the time and are hardly ever reached."""

import asyncio
import math
from collections.abc import Callable


class LazyTimer:
    """Runs `check` in time, at next to no cost for those who ask often.

    `check` looks whether something is due and returns the time of the loop at which it wants to look again (infinite
    for never). Asking for a time after the one that is set does nothing: the timer fires early, finds nothing due and
    sets itself anew. So a request or a chunk that moves a deadline costs a comparison, not a handle in the loop.
    """

    __slots__ = ("_check", "_due", "_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, check: Callable[[], float]) -> None:
        self._loop = loop
        self._check = check
        self._due = math.inf
        self._handle: asyncio.TimerHandle | None = None

    def ask(self, due: float) -> None:
        """Have `check` run at `due` (time of the loop) or before; never, if that is infinite."""
        if due < self._due:
            if self._handle is not None:
                self._handle.cancel()
            self._due = due
            self._handle = self._loop.call_at(due, self._fire)

    def cancel(self) -> None:
        """Run `check` never again."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._due = -math.inf
        self._check = _nothing  # the owner of this timer has it: a cycle

    def _fire(self) -> None:
        self._handle, self._due = None, math.inf
        due = self._check()
        self.ask(due)


def _nothing() -> float:
    return math.inf
