"""Whether somebody asks for much more than can be served in time."""

from collections.abc import Hashable
from math import exp
from typing import Final, NamedTuple

MEMORY: Final = 20.0
"""Seconds after which what was asked for counts about a third, where requests are short."""
SERVICES: Final = 2.0
"""The same where they are long, in the times that one takes: within less too few come free to tell anything."""
ENOUGH: Final = 5.0
"""Requests that were refused, those of old counting less, from which anything is said."""


class Late(NamedTuple):
    """A request that is refused. All are seconds.

    Attributes:
        turn: until it would have been its turn.
        place: until a place in line comes free, and then until the next one does.
        patience: how long it could have waited.
        service: how long a request like this one takes.
    """

    turn: float
    place: float
    patience: float
    service: float


class Demand:
    """The requests of one tenant for the same slots: how many were let in lately, and how many came too late.

    While most have to be refused in any case, it is idle to let the others wait for long: as many are served when each
    waits for a moment only, and the line is gone as soon as the load is. (What CoDel does for packets: it is the queue
    that never gets empty which is too long, not the one that takes up a burst. Nichols and Jacobson, ACM Queue 10/5.)

    Those who are refused for that reason alone are told to come back, each when a place of its own comes free, so that
    they wait in a line as well, outside. Only one for whom both lines together are too long came too late. To count any
    other would be to take those who ask again for ever more of them, and never to let them in.
    """

    __slots__ = ("_at", "_let_in", "_memory", "_promised", "_refused")

    def __init__(self, now: float) -> None:
        self._at = now
        self._memory = MEMORY
        self._let_in = 0.0
        self._refused = 0.0
        self._promised = now  # until when the places that come free are promised

    def note(self, now: float, *, refused: bool) -> None:
        """Count one more request. Seconds of a monotonic clock."""
        self.fade(now)
        self._let_in += not refused
        self._refused += refused

    def put_off(self, now: float, late: Late) -> None:
        """Count one that is refused if it came too late; promise it the next place if the line was not too long."""
        self._memory = max(MEMORY, SERVICES * late.service)
        promised = self.promised(now)
        if late.turn + promised > late.patience:
            self.note(now, refused=True)
        if late.turn <= late.patience:
            self._promised = now + min(promised + late.place, late.patience)

    def fade(self, now: float) -> None:
        """Let what was counted before `now` count less."""
        left = exp((self._at - now) / self._memory)
        self._at = now
        self._let_in *= left
        self._refused *= left

    def promised(self, now: float) -> float:
        """Return for how many seconds the places that come free are promised; never longer than anybody would wait."""
        return max(0.0, self._promised - now)

    @property
    def excessive(self) -> bool:
        """Whether more came too late than were let in."""
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
            if demand.over and not demand.promised(now):
                del self._demands[who]

    def kept_out(self, who: Hashable, now: float, late: Late) -> None:
        """Note one that is refused because it came too late, or because too many did."""
        demand = self._demands.get(who)
        if demand is None:
            demand = self._demands[who] = Demand(now)
            if len(self._demands) > self._size:
                del self._demands[next(iter(self._demands))]
        demand.put_off(now, late)

    def excessive(self, who: Hashable, now: float) -> bool:
        """Whether more requests of `who` came too late than were let in."""
        demand = self._demands.get(who)
        if demand is None:
            return False
        demand.fade(now)
        return demand.excessive

    def promised(self, who: Hashable, now: float) -> float:
        """Return the seconds for which the places of `who` are promised to requests that were refused."""
        demand = self._demands.get(who)
        return demand.promised(now) if demand is not None else 0.0

    def __len__(self) -> int:
        return len(self._demands)
