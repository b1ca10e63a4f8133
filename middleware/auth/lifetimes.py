"""How long credentials live, by a clock that nobody can set back."""

from collections.abc import Hashable
from math import inf
from typing import Final

from proxy.kernel.clock import Clock

REMEMBERED: Final = 100_000
"""Credentials with an end. Of more, those that were seen first are measured anew."""


class Lifetimes:
    """Measures the time that is left of credentials which end at a moment of the calendar.

    The calendar's clock says when one ends. A machine's clock can be set back, though, and everything that has ended
    would come to life again. So the time that is left when a credential is first seen is measured from then on by the
    monotonic clock as well, and the credential is over by whichever says so first.

    A clock that is set forward ends credentials while it is wrong, and no longer: one that has ended is not noted.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends: dict[tuple[Hashable, float], float] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def left(self, credential: Hashable, expires: float) -> float:
        """Return the seconds until a credential is over, 0 or less where it is.

        Args:
            credential: what it is known by; nothing secret.
            expires: when it ends, seconds since 1970, ``inf`` for never. Another end is another life.
        """
        left = expires - self._clock.time()
        if left <= 0 or left == inf:
            return left
        now = self._clock.monotonic()
        end = self._ends.setdefault((credential, expires), now + left)
        if len(self._ends) > REMEMBERED:
            self._ends.pop(next(iter(self._ends)), None)
        return min(left, end - now)


def is_over(lifetimes: Lifetimes | None, credential: Hashable, expires: float | None, now: float) -> bool:
    """Whether a credential is over `now`, seconds since 1970, or by `lifetimes` where they are measured."""
    if expires is None:
        return False
    return now >= expires or (lifetimes is not None and lifetimes.left(credential, expires) <= 0)
