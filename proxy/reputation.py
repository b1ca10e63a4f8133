"""What callers have seen of one backend: when that is reason enough to eject it.

A caller chooses the requests that fail, and may choose them so that they do. So what failed for one caller alone is
only that caller's word, and counts for at most half of what it takes, however often it is said. More counts only what
nobody chose: that the backend was not to be reached at all; and what another backend answered well, as long as no
other caller was served here of late.
"""

from typing import Final

GOOD_WORD: Final = 600.0
"""Seconds for which a caller who was served stands against the word of another one."""
CALLERS: Final = 64
"""Callers whose word is remembered; of a backend that cannot be spared there may be any number."""


class Reputation:
    """Of one backend, since it last served a request. No clock: the time is passed in."""

    __slots__ = ("_before", "_last", "_said", "_served_at", "_unreached")

    def __init__(self) -> None:
        self._unreached = 0
        self._said: dict[str, tuple[int, int]] = {}  # by caller: failures, and how many others answered well
        self._served_at = float("-inf")
        self._last: tuple[str, float] | None = None  # who was served last, and the last one before that was another
        self._before: tuple[str, float] | None = None

    def served(self, caller: str, now: float) -> None:
        """A request was answered: what was said before is over."""
        if self._last is not None and self._last[0] != caller:
            self._before = self._last
        self._last = caller, now
        self._served_at = now
        self.forget()

    def forget(self) -> None:
        """Begin anew; who was served stays known."""
        self._unreached = 0
        if self._said:
            self._said.clear()

    def unreached(self) -> None:
        """A request could not be sent: whatever was in it, that is the backend's fault."""
        self._unreached += 1

    def failed(self, caller: str, at: float, *, proven: bool) -> bool:
        """A request failed `at` that time; `proven` if another backend answered it. Returns whether that still counts.

        What failed before a later request was served is old.
        """
        if at <= self._served_at:
            return False
        said, shown = self._said.get(caller, (0, 0))
        if said or len(self._said) < CALLERS:
            self._said[caller] = said + 1, shown + proven
        return True

    def weight(self, enough: int, now: float) -> float:
        """Return how many failures in a row what was said amounts to, where `enough` of them eject a backend."""
        most = enough / 2
        total = float(self._unreached)
        for caller, (said, shown) in self._said.items():
            if self._outspoken(caller, now):
                total += min(said, most)
            else:
                total += shown + min(said - shown, most)
        return total

    def _outspoken(self, caller: str, now: float) -> bool:
        """Whether somebody else than `caller` was served of late."""
        served = self._last
        if served is not None and served[0] == caller:
            served = self._before
        return served is not None and now - served[1] < GOOD_WORD

    def __repr__(self) -> str:
        return f"<Reputation unreached {self._unreached} times, {self._said}>"
