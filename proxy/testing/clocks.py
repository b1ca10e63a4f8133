"""A clock that stands still until a test moves it."""

from proxy.kernel.clock import Clock


class ManualClock(Clock):
    """A `Clock` whose two times are moved together by `advance`; `set` moves one.

    Args:
        time: seconds since 1970 at which it stands.
    """

    def __init__(self, time: float = 1_800_000_000.0) -> None:
        self._time = time
        self._monotonic = 1000.0

    def monotonic(self) -> float:
        """Return seconds that never step back."""
        return self._monotonic

    def time(self) -> float:
        """Return seconds since 1970."""
        return self._time

    def set(self, time: float) -> None:
        """Step to another `time`, as a machine's clock does when it is set; `monotonic` stays."""
        self._time = time

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self._time += seconds
        self._monotonic += seconds
