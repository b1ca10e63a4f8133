"""A clock that only a test moves."""

from proxy.kernel.clock import Clock


class ManualClock(Clock):
    """A `Clock` that only a test moves: `advance` moves both of its times, and `set` the calendar time alone.

    Args:
        time: the calendar time at first, in seconds since 1970.
    """

    def __init__(self, time: float = 1_800_000_000.0) -> None:
        self._time = time
        self._monotonic = 1000.0

    def monotonic(self) -> float:
        """Return the monotonic time in seconds; it never steps back."""
        return self._monotonic

    def time(self) -> float:
        """Return the calendar time in seconds since 1970."""
        return self._time

    def set(self, time: float) -> None:
        """Set the calendar time, as an administrator sets a machine's clock; the monotonic time does not change."""
        self._time = time

    def advance(self, seconds: float) -> None:
        """Move both times forward by `seconds`."""
        self._time += seconds
        self._monotonic += seconds
