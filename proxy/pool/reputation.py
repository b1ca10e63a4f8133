"""The reputation of one backend: which callers saw it fail, and whether that is enough to suspect or eject it.

A caller can choose requests that fail. So failures that only one caller saw are one caller's word. While the backend
serves other callers, they do not make it a suspect, and however many there are, they count for at most half of what
ejects it. In full count only failures that no caller can choose: that the backend could not be reached; and a failed
request that another backend served well, as long as this backend served no other caller recently.
"""

from typing import Final

GOOD_WORD: Final = 600.0
"""Seconds for which a caller who was served outweighs the word of another caller."""
CALLERS: Final = 64
"""Largest number of callers whose failures are counted; a backend that cannot be spared may collect any number."""


class Served:
    """The last caller who was served, and the last other caller before. Has no clock: the time is passed in."""

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
        """Return whether another caller than `caller` was served within the last GOOD_WORD seconds."""
        served = self._last
        if served is not None and served[0] == caller:
            served = self._before
        return served is not None and now - served[1] < GOOD_WORD


class Reputation:
    """Failures of one backend since it last served a request. Has no clock: the time is passed in."""

    __slots__ = ("_said", "_served", "_served_at", "_unreached")

    def __init__(self) -> None:
        self._unreached = 0
        self._said: dict[str, tuple[int, int]] = {}  # by caller: failures, and how many of them were proven
        self._served = Served()
        self._served_at = float("-inf")

    @property
    def failures(self) -> int:
        """Number of failed requests that count."""
        return self._unreached + sum(said for said, _ in self._said.values())

    def served(self, caller: str, now: float) -> None:
        """Note a served request, after which earlier failures count no more."""
        self._served.note(caller, now)
        self._served_at = now
        self.forget()

    def forget(self) -> None:
        """Drop all failures; keep who was served."""
        self._unreached = 0
        if self._said:
            self._said.clear()

    def unreached(self) -> None:
        """Count a request that could not be sent, which is the backend's fault whatever the request is."""
        self._unreached += 1

    def failed(self, caller: str, at: float, *, proven: bool) -> bool:
        """Count a request that failed `at` that time, as `proven` where another backend served it.

        Return whether it counts: a failure from before the last served request does not.
        """
        if at <= self._served_at:
            return False
        said, shown = self._said.get(caller, (0, 0))
        if said or len(self._said) < CALLERS:
            self._said[caller] = said + 1, shown + proven
        return True

    def proven(self, caller: str) -> None:
        """Count a failure of `caller` as proven later: another backend served what failed here."""
        said, shown = self._said.get(caller, (0, 0))
        if shown < said:
            self._said[caller] = said, shown + 1

    def dubious(self, caller: str, now: float) -> bool:
        """Return whether a failure that `caller` saw makes the backend a suspect; one caller's word does not."""
        return not self._served.others(caller, now) or any(other != caller for other in self._said)

    def weight(self, enough: int, now: float, *, elsewhere: Served | None = None) -> float:
        """Return the number of failures in a row that the callers' words amount to.

        Args:
            enough: the number of failures that ejects the backend; one caller's word counts for half of it at most.
            now: seconds of the monotonic clock.
            elsewhere: callers served by all backends, where these outweigh a caller's word too; else None.
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
