"""Overload: detect a tenant that asks for much more than can be served in time."""

from collections.abc import Hashable
from math import exp
from typing import Final, NamedTuple

DECAY: Final = 20.0
"""Seconds after which a counted request counts about a third, where requests are short."""
SERVICES: Final = 2.0
"""The same where requests are long, in service times: in less time too few slots come free to tell anything."""
ENOUGH: Final = 5.0
"""Least number of refused requests, faded by age, for a tenant to count as excessive."""


class Late(NamedTuple):
    """A request that is refused as late. All values are seconds.

    Attributes:
        turn: time until its turn would have come.
        place: time until the next place in the queue comes free, and between one and the next.
        patience: time that it could have waited.
        service: time that a request like this one takes.
    """

    turn: float
    place: float
    patience: float
    service: float


class Demand:
    """The requests of one tenant for the same slots: how many were let in recently, and how many came too late.

    While most requests have to be refused anyway, it gains nothing to let the others wait for long: as many are served
    when each waits only briefly, and the queue is empty as soon as the load is gone. (CoDel does this for packets: too
    long is a queue that never empties, not one that absorbs a burst. Nichols and Jacobson, ACM Queue 10/5.)

    A request that is refused for this reason alone is told to come back when a place of its own comes free. So the
    refused ones wait in a second queue, outside. Only a request for which both queues together are too long came too
    late. If others counted too, those that come back would count as more and more demand, and never be let in.
    """

    __slots__ = ("_at", "_decay", "_let_in", "_promised", "_refused")

    def __init__(self, now: float) -> None:
        self._at = now
        self._decay = DECAY
        self._let_in = 0.0
        self._refused = 0.0
        self._promised = now  # until when the places that come free are promised

    def note(self, now: float, *, refused: bool) -> None:
        """Count one more request; `now` is in seconds of a monotonic clock."""
        self.fade(now)
        self._let_in += not refused
        self._refused += refused

    def put_off(self, now: float, late: Late) -> None:
        """Count a request as refused if it came too late; promise it the next place if its turn was not too late."""
        self._decay = max(DECAY, SERVICES * late.service)
        promised = self.promised(now)
        if late.turn + promised > late.patience:
            self.note(now, refused=True)
        if late.turn <= late.patience:
            self._promised = now + min(promised + late.place, late.patience)

    def fade(self, now: float) -> None:
        """Fade the counts to `now`."""
        left = exp((self._at - now) / self._decay)
        self._at = now
        self._let_in *= left
        self._refused *= left

    def promised(self, now: float) -> float:
        """Return for how many seconds the places that come free are promised; never longer than a request may wait."""
        return max(0.0, self._promised - now)

    @property
    def excessive(self) -> bool:
        """Whether more requests came too late than were let in."""
        return self._refused >= ENOUGH and self._refused > self._let_in

    @property
    def over(self) -> bool:
        """Whether so few requests were refused recently that the counts can be dropped."""
        return self._refused < 1.0


class Demands:
    """The demand of each tenant and lane with a recently refused request, at most `size` of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._demands: dict[Hashable, Demand] = {}

    def let_in(self, who: Hashable, now: float) -> None:
        """Count a request of `who` that is let in."""
        demand = self._demands.get(who)
        if demand is not None:
            demand.note(now, refused=False)
            if demand.over and not demand.promised(now):
                del self._demands[who]

    def kept_out(self, who: Hashable, now: float, late: Late) -> None:
        """Note a request of `who` that is refused because it, or too many before it, came too late."""
        demand = self._demands.get(who)
        if demand is None:
            demand = self._demands[who] = Demand(now)
            if len(self._demands) > self._size:
                del self._demands[next(iter(self._demands))]
        demand.put_off(now, late)

    def excessive(self, who: Hashable, now: float) -> bool:
        """Return whether more requests of `who` came too late than were let in."""
        demand = self._demands.get(who)
        if demand is None:
            return False
        demand.fade(now)
        return demand.excessive

    def promised(self, who: Hashable, now: float) -> float:
        """Return the seconds for which the places of `who` are promised to its refused requests."""
        demand = self._demands.get(who)
        return demand.promised(now) if demand is not None else 0.0

    def __len__(self) -> int:
        return len(self._demands)
