"""The contract of a clock."""

from abc import ABC, abstractmethod


class Clock(ABC):
    """Tells the time in seconds. Whoever measures or waits asks a clock, so that a test can set the time."""

    @abstractmethod
    def monotonic(self) -> float:
        """Return seconds that never step back, from an arbitrary start; for measuring."""

    @abstractmethod
    def time(self) -> float:
        """Return seconds since 1970 (UTC); for stamps, and for windows that machines share."""
