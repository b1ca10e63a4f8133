"""Counters of a shared store that this process knows to be full, without asking again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.kernel.quotas import Level, Quota, Unit, Window
from proxy.stores.expiring import Shelf

TRUSTED: Final = 10.0
"""Seconds after which the store is asked again in any case: its counters may have been lost meanwhile."""


@dataclass(slots=True)
class _Full:
    """Until when a counter is full, and until when that is believed; monotonic seconds."""

    used: int
    until: float
    expires: float


class KnownFull:
    """What the store said of full windows that cannot become free before their time.

    That is requests, which are never given back, and tokens that were used; not tokens that running requests have
    reserved, and not running requests. It is bounded as a `Shelf` is.
    """

    def __init__(self) -> None:
        self._full: Shelf[_Full] = Shelf()

    def note(self, key: str, level: Level, seconds: float, *, now: float, today: float) -> None:
        """Remember that a window has no room.

        Args:
            key: of its quota.
            level: how full it is.
            seconds: for how long, whatever running requests give back.
            now: monotonic.
            today: since 1970, which says what day it is.
        """
        if level.window is not None and seconds > 0:
            full = _Full(level.used, now + seconds, now + min(seconds, TRUSTED))
            self._full.put(_name(key, level.unit, level.window, today), full, now)

    def levels(self, quotas: Sequence[Quota], *, now: float, today: float) -> Iterator[Level]:
        """Yield how full those counters of `quotas` are that have no room now; arguments as for `note`."""
        if not self._full:
            return
        for number, quota in enumerate(quotas):
            windows: tuple[tuple[Unit, tuple[Window, ...]], ...] = (
                ("requests", quota.requests),
                ("tokens", quota.tokens),
            )
            for unit, of_unit in windows:
                for window in of_unit:
                    full = self._full.get(_name(quota.key, unit, window, today), now)
                    if full is not None and full.used >= window.amount:  # of another policy it may be larger
                        yield Level(number, unit, window.amount, full.used, full.until - now, window)

    def __len__(self) -> int:
        return len(self._full)


def _name(key: str, unit: Unit, window: Window, today: float) -> str:
    return f"{key}/{unit}/{window.place(today)[0]}"
