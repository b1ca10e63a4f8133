"""Measure the remaining life of credentials by a clock that cannot be set back."""

from collections.abc import Hashable
from math import inf
from typing import Final

from proxy.kernel.clock import Clock

REMEMBERED: Final = 100_000
"""Maximum number of credentials with an end. Beyond it, the oldest are forgotten and measured anew."""


class Lifetimes:
    """Measures the time left of credentials that expire at a calendar time.

    The calendar clock says when a credential expires. But if a machine's clock is set back, every expired credential
    would become valid again. So when a credential is first seen, its remaining time is also measured by the monotonic
    clock. It has expired when either clock says so.

    A clock that is wrongly set forward expires credentials only while it is wrong: expired credentials are not
    recorded.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends: dict[tuple[Hashable, float], float] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def left(self, credential: Hashable, expires: float) -> float:
        """Return the seconds until a credential expires, 0 or less if it has.

        Args:
            credential: an identifier of the credential; nothing secret.
            expires: when it expires, seconds since 1970, ``inf`` for never. A different time is measured anew.
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
    """Return whether a credential has expired at `now`, seconds since 1970, or by `lifetimes` if that is given."""
    if expires is None:
        return False
    return now >= expires or (lifetimes is not None and lifetimes.left(credential, expires) <= 0)
