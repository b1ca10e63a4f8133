"""What callers have seen of one backend: when that is reason enough to suspect it, or to eject it.

A caller chooses the requests that fail, and may choose them so that they do. So what failed for one caller alone is
only that caller's word: while others were served here of late it makes no suspect, and it counts for at most half of
what ejects, however often it is said. More counts only what nobody chose: that the backend was not to be reached at
all; and what another backend answered well, as long as no other caller was served here of late.
"""

from typing import Final

GOOD_WORD: Final = 600.0
"""Seconds for which a caller who was served stands against the word of another one."""
CALLERS: Final = 64
"""Callers whose word is remembered; of a backend that cannot be spared there may be any number."""


class Served:
    """Who was served last, and before that last somebody else. No clock: the time is passed in."""

    __slots__ = ("_before", "_last")

    def __init__(self) -> None:
        self._last: tuple[str, float] | None = None
        self._before: tuple[str, float] | None = None

    def note(self, caller: str, now: float) -> None:
        """Note that `caller` was served."""
        if self._last is not None and self._last[0] != caller:
            self._before = self._last
        self._last = caller, now

    def others(self, caller: str, now: float) -> bool:
        """Whether somebody else than `caller` was served of late."""
        served = self._last
        if served is not None and served[0] == caller:
            served = self._before
        return served is not None and now - served[1] < GOOD_WORD


class Reputation:
    """Of one backend, since it last served a request. No clock: the time is passed in."""

    __slots__ = ("_said", "_served", "_served_at", "_unreached")

    def __init__(self) -> None:
        self._unreached = 0
        self._said: dict[str, tuple[int, int]] = {}  # by caller: failures, and how many of them were proven
        self._served = Served()
        self._served_at = float("-inf")

    @property
    def failures(self) -> int:
        """How many requests failed, as far as that counts."""
        return self._unreached + sum(said for said, _ in self._said.values())

    def served(self, caller: str, now: float) -> None:
        """A request was answered: what was said before is over."""
        self._served.note(caller, now)
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

    def proven(self, caller: str) -> None:
        """Another backend answered what failed for `caller` here, later than the failure was counted."""
        said, shown = self._said.get(caller, (0, 0))
        if shown < said:
            self._said[caller] = said, shown + 1

    def dubious(self, caller: str, now: float) -> bool:
        """Whether a failure that `caller` saw is reason enough to suspect it: not while that is one caller's word."""
        return not self._served.others(caller, now) or any(other != caller for other in self._said)

    def weight(self, enough: int, now: float, *, elsewhere: Served | None = None) -> float:
        """Return how many failures in a row what was said amounts to, where `enough` of them eject a backend.

        `elsewhere` is who was served by other backends too, where these speak against a caller as well.
        """
        most = enough / 2
        total = float(self._unreached)
        for caller, (said, shown) in self._said.items():
            if self._served.others(caller, now) or (elsewhere is not None and elsewhere.others(caller, now)):
                total += min(said, most)
            else:
                total += shown + min(said - shown, most)
        return total

    def __repr__(self) -> str:
        return f"<Reputation unreached {self._unreached} times, {self._said}>"
