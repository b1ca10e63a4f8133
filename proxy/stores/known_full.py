"""Counters of a shared store that this process knows to be full without another call."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.kernel.quotas import Level, Quota, Unit, Window
from proxy.stores.expiring import ExpiringDict

TRUSTED: Final = 10.0
"""Seconds after which the store is asked again in any case, as it may have lost its counters."""


@dataclass(slots=True)
class _Full:
    """A full counter: its use, until when it is full, and until when that is trusted; monotonic seconds."""

    used: int
    until: float
    expires: float


class KnownFull:
    """Full windows that cannot have room again before their time, as the store reported them.

    These are windows of requests, which are never given back, and of used tokens. Tokens that running requests have
    reserved, and running requests themselves, may be given back at any time, so they are not kept. The number is
    bounded like that of an `ExpiringDict`.
    """

    def __init__(self) -> None:
        self._full: ExpiringDict[_Full] = ExpiringDict()

    def note(self, key: str, level: Level, seconds: float, *, now: float, today: float) -> None:
        """Remember that a window has no room.

        Args:
            key: key of the quota.
            level: how full the window is.
            seconds: for how long it stays full, whatever running requests give back.
            now: seconds of the monotonic clock.
            today: seconds since 1970, which decide what day it is.
        """
        if level.window is not None and seconds > 0:
            full = _Full(level.used, now + seconds, now + min(seconds, TRUSTED))
            self._full.put(_name(key, level.unit, level.window, today), full, now)

    def levels(self, quotas: Sequence[Quota], *, now: float, today: float) -> Iterator[Level]:
        """Yield the levels of those counters of `quotas` that are known to be full now; arguments as for `note`."""
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
                    if full is not None and full.used >= window.amount:  # another policy may allow more
                        yield Level(number, unit, window.amount, full.used, full.until - now, window)

    def __len__(self) -> int:
        return len(self._full)


def _name(key: str, unit: Unit, window: Window, today: float) -> str:
    return f"{key}/{unit}/{window.place(today)[0]}"
