"""A clock that stands still until a test moves it."""

from proxy.kernel.clock import Clock


class ManualClock(Clock):
    """Both clocks of `Clock`, moved together by `advance`; `set` moves one."""

    def __init__(self, time: float = 1_800_000_000.0) -> None:
        self._time = time
        self._monotonic = 1000.0

    def monotonic(self) -> float:
        return self._monotonic

    def time(self) -> float:
        return self._time

    def set(self, time: float) -> None:
        """Step like a machine's clock that somebody sets: the other one takes no notice."""
        self._time = time

    def advance(self, seconds: float) -> None:
        self._time += seconds
        self._monotonic += seconds
