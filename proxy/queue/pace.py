"""The pace of the queue: how fast waiting requests get slots, from which waiting times are estimated."""

from math import exp
from typing import Final

DECAY: Final = 20.0
"""Seconds after which a measurement counts about a third."""
ENOUGH: Final = 0.5
"""Least number of measured requests, faded by age, for an estimate."""


class Pace:
    """Tokens and requests that got slots, per second in which at least one request waited. All times are seconds."""

    __slots__ = ("_at", "_requests", "_seconds", "_seen", "_tokens")

    def __init__(self) -> None:
        self._at = 0.0
        self._requests = 0.0
        self._seconds = 0.0
        self._seen = 0
        self._tokens = 0.0

    def began(self, now: float) -> None:
        """Note that a request waits, after none did."""
        self._fade(now)
        if self._requests < ENOUGH:
            self._seen = 0

    def moved(self, now: float, tokens: float) -> None:
        """Note that a waiting request got a slot; it will take about `tokens`."""
        passed = self._fade(now)
        self._seconds += passed
        self._requests += 1
        self._seen += 1
        self._tokens += tokens

    def seconds(self, now: float, tokens: float, *, at_once: int = 1) -> float | None:
        """Return seconds until the requests ahead, which ask for `tokens`, and one more have slots; None if unknown.

        Where `at_once` requests run side by side, their slots come free at about the same time: fewer measured requests
        than that say nothing about the pace.
        """
        if self._requests < ENOUGH or self._seen < at_once or not self._tokens:
            return None
        between, since = self._seconds / self._requests, now - self._at
        overdue = max(0.0, since - between)  # where no slot comes free any more, the pace falls at once
        return tokens * (self._seconds + overdue) / self._tokens + max(0.0, between - since)

    def _fade(self, now: float) -> float:
        """Fade the measurements to `now`, and return the seconds since they were faded last."""
        passed = max(0.0, now - self._at)
        left = exp(-passed / DECAY)
        self._requests *= left
        self._seconds *= left
        self._tokens *= left
        self._at = now
        return passed
