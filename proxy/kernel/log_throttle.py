"""Log lines that strangers can cause, and so fill a disk with: a few a second, and how many were left out."""

import time
from collections.abc import Callable
from typing import Final

LOGGED_PER_SECOND: Final = 10


class Seldom:
    """Lets `LOGGED_PER_SECOND` events a second through.

    Args:
        now: returns seconds that never go back.
    """

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self._now = now or time.monotonic
        self._second = 0
        self._logged = 0
        self._unlogged = 0

    def left_out(self) -> int | None:
        """Return how many events were left out before this one; None: leave this one out, too."""
        second = int(self._now())
        if second != self._second:
            self._second, self._logged = second, 0
        if self._logged >= LOGGED_PER_SECOND:
            self._unlogged += 1
            return None
        self._logged += 1
        left_out, self._unlogged = self._unlogged, 0
        return left_out
