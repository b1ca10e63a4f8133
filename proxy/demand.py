"""Whether somebody asks for much more than can be served in time."""

from collections.abc import Hashable
from math import exp
from typing import Final

MEMORY: Final = 20.0
"""Seconds after which what was asked for counts about a third."""
ENOUGH: Final = 5.0
"""Requests that were refused, those of old counting less, from which anything is said."""


class Demand:
    """The requests of one tenant for the same slots: how many were let in lately, and how many came too late for that.

    While most have to be refused in any case, it is idle to let the others wait for long: as many are served when each
    waits for a moment only, and the line is gone as soon as the load is. (What CoDel does for packets: it is the queue
    that never gets empty which is too long, not the one that takes up a burst. Nichols and Jacobson, ACM Queue 10/5.)
    """

    __slots__ = ("_at", "_let_in", "_refused")

    def __init__(self, now: float) -> None:
        self._at = now
        self._let_in = 0.0
        self._refused = 0.0

    def note(self, now: float, *, refused: bool) -> None:
        """Count one more request. Seconds of a monotonic clock."""
        left = exp((self._at - now) / MEMORY)
        self._at = now
        self._let_in = self._let_in * left + (not refused)
        self._refused = self._refused * left + refused

    @property
    def excessive(self) -> bool:
        """Whether more were refused than let in."""
        return self._refused >= ENOUGH and self._refused > self._let_in

    @property
    def over(self) -> bool:
        """Whether so few were refused lately that it need not be remembered."""
        return self._refused < 1.0


class Demands:
    """The demand of those of whom a request was refused lately, `size` of them at most; of others nothing is kept."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._demands: dict[Hashable, Demand] = {}

    def let_in(self, who: Hashable, now: float) -> None:
        """Count a request of `who` that need not be refused."""
        demand = self._demands.get(who)
        if demand is not None:
            demand.note(now, refused=False)
            if demand.over:
                del self._demands[who]

    def kept_out(self, who: Hashable, now: float) -> None:
        """Count one that came too late."""
        demand = self._demands.get(who)
        if demand is None:
            demand = self._demands[who] = Demand(now)
            if len(self._demands) > self._size:
                del self._demands[next(iter(self._demands))]
        demand.note(now, refused=True)

    def excessive(self, who: Hashable) -> bool:
        """Whether more requests of `who` were refused than let in."""
        demand = self._demands.get(who)
        return demand is not None and demand.excessive

    def __len__(self) -> int:
        return len(self._demands)
