"""What the strategies of the `limits` library count in, in this process.

Not the storage that comes with `limits` 5.8: at every hit that one starts a task which visits each key it knows, one
thread hop per key (30 to 80 µs of CPU a hit, where this takes 5), and it reads the clock itself: the one that steps
when it is set, which would keep callers out until the lost hour is over. Here windows run by the clock that never steps
back; only what a caller is told, when a window ends, is in seconds since 1970.
"""

from collections import deque

from limits.aio.storage import MovingWindowSupport, Storage

from proxy.kernel.clock import Clock
from proxy.stores.expiring import Shelf


class MemoryWindows(Storage, MovingWindowSupport):
    """Counters for `FixedWindowRateLimiter` and `MovingWindowRateLimiter`. No call ever waits."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._counts: Shelf[_Count] = Shelf()
        self._hits: Shelf[_Hits] = Shelf()

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """No call fails."""
        return ()

    async def acquire_entry(self, key: str, limit: int, expiry: float, amount: int = 1) -> bool:
        """Add `amount` hits, unless more than `limit` would then be younger than `expiry` seconds."""
        if amount > limit:
            return False
        now = self._clock.monotonic()
        hits = self._hits.get(key, now) or self._hits.put(key, _Hits(), now)
        if hits.young(now - expiry) > limit - amount:
            return False
        hits.times.extendleft([now] * amount)
        hits.expires = now + expiry
        return True

    async def get_moving_window(self, key: str, limit: int, expiry: float) -> tuple[float, int]:
        """Return when the oldest of the last `limit` hits that still count was made, and how many these are."""
        now = self._clock.monotonic()
        hits = self._hits.get(key, now)
        size = min(limit, hits.young(now - expiry)) if hits else 0
        return self._stamp(hits.times[size - 1] if hits and size else now, now), size

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Add to a counter and return its value; a new one is forgotten after `expiry` seconds."""
        now = self._clock.monotonic()
        counter = self._counts.get(key, now) or self._counts.put(key, _Count(now + expiry), now)
        counter.value += amount
        return counter.value

    async def get(self, key: str) -> int:
        """Return a counter's value."""
        counter = self._counts.get(key, self._clock.monotonic())
        return counter.value if counter else 0

    async def get_expiry(self, key: str) -> float:
        """Return when a counter is forgotten; now, where it does not exist."""
        now = self._clock.monotonic()
        counter = self._counts.get(key, now)
        return self._stamp(counter.expires if counter else now, now)

    async def clear(self, key: str) -> None:
        """Forget a counter."""
        self._counts.pop(key)
        self._hits.pop(key)

    async def check(self) -> bool:
        """Memory is always there."""
        return True

    async def reset(self) -> int:
        """Forget every counter; return how many there were."""
        return self._counts.clear() + self._hits.clear()

    def _stamp(self, moment: float, now: float) -> float:
        return self._clock.time() + moment - now

    def __len__(self) -> int:
        return len(self._counts) + len(self._hits)


class _Count:
    __slots__ = ("expires", "value")

    def __init__(self, expires: float) -> None:
        self.expires = expires
        self.value = 0


class _Hits:
    """The times of the hits of one window, newest first."""

    __slots__ = ("expires", "times")

    def __init__(self) -> None:
        self.times: deque[float] = deque()
        self.expires = 0.0

    def young(self, since: float) -> int:
        """Drop the hits before `since`, and return how many are left."""
        times = self.times
        while times and times[-1] < since:
            times.pop()
        return len(times)
