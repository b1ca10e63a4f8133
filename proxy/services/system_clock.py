"""The clock of this machine."""

import time

from proxy.kernel.clock import Clock


class SystemClock(Clock):
    """Tells the time of this machine."""

    def monotonic(self) -> float:
        """Return seconds that never step back, from an arbitrary start."""
        return time.monotonic()

    def time(self) -> float:
        """Return seconds since 1970 (UTC)."""
        return time.time()
