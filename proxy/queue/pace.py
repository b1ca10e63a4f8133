"""How fast waiting requests go: measured, to say how long one will have to wait."""

from math import exp
from typing import Final

MEMORY: Final = 20.0
"""Seconds after which what was measured counts about a third."""
ENOUGH: Final = 0.5
"""Requests, those of old counting less, from which anything is said."""


class Pace:
    """Tokens and requests that got slots, by the time in which somebody waited for one. All times are seconds."""

    __slots__ = ("_at", "_requests", "_seconds", "_seen", "_tokens")

    def __init__(self) -> None:
        self._at = 0.0
        self._requests = 0.0
        self._seconds = 0.0
        self._seen = 0
        self._tokens = 0.0

    def began(self, now: float) -> None:
        """Somebody waits, after nobody did."""
        self._fade(now)
        if self._requests < ENOUGH:
            self._seen = 0

    def moved(self, now: float, tokens: float) -> None:
        """One that waited got a slot; it will take about `tokens`."""
        passed = self._fade(now)
        self._seconds += passed
        self._requests += 1
        self._seen += 1
        self._tokens += tokens

    def seconds(self, now: float, tokens: float, *, at_once: int = 1) -> float | None:
        """Return how long it takes until those have gone that ask for `tokens`, and then one more; None: not known.

        Where `at_once` requests run side by side, the first slot comes free after as long as all of them: less than
        that many tell nothing of how fast the line moves.
        """
        if self._requests < ENOUGH or self._seen < at_once or not self._tokens:
            return None
        between, since = self._seconds / self._requests, now - self._at
        overdue = max(0.0, since - between)  # where nothing moves any more, the pace falls before anything is measured
        return tokens * (self._seconds + overdue) / self._tokens + max(0.0, between - since)

    def _fade(self, now: float) -> float:
        """Let what was measured count less, and return the time since it was last said that it does."""
        passed = max(0.0, now - self._at)
        left = exp(-passed / MEMORY)
        self._requests *= left
        self._seconds *= left
        self._tokens *= left
        self._at = now
        return passed
