"""The storage in this process for the strategies of the `limits` library.

It replaces the storage of `limits` 5.8, which starts a task at every hit that visits each known key, with one thread
hop per key (30 to 80 µs of CPU a hit; this one takes 5). That storage also reads the clock that steps when it is set,
which would refuse callers until a lost hour is over. Here windows use the monotonic clock; only the end of a window, as
callers are told it, is in seconds since 1970.
"""

from collections import deque

from limits.aio.storage import MovingWindowSupport, Storage

from proxy.kernel.clock import Clock
from proxy.stores.expiring import ExpiringDict


class MemoryWindows(Storage, MovingWindowSupport):
    """Counters for `FixedWindowRateLimiter` and `MovingWindowRateLimiter`. No call ever waits."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._counts: ExpiringDict[_Count] = ExpiringDict()
        self._hits: ExpiringDict[_Hits] = ExpiringDict()

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """Empty, as no call fails."""
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
        """Return the time of the oldest hit that counts, of the last `limit`, and the number of hits that count."""
        now = self._clock.monotonic()
        hits = self._hits.get(key, now)
        size = min(limit, hits.young(now - expiry)) if hits else 0
        return self._stamp(hits.times[size - 1] if hits and size else now, now), size

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Add `amount` to a counter and return its value; a new counter expires after `expiry` seconds."""
        now = self._clock.monotonic()
        counter = self._counts.get(key, now) or self._counts.put(key, _Count(now + expiry), now)
        counter.value += amount
        return counter.value

    async def get(self, key: str) -> int:
        """Return the value of a counter, 0 where there is none."""
        counter = self._counts.get(key, self._clock.monotonic())
        return counter.value if counter else 0

    async def get_expiry(self, key: str) -> float:
        """Return when a counter expires; now, where there is none."""
        now = self._clock.monotonic()
        counter = self._counts.get(key, now)
        return self._stamp(counter.expires if counter else now, now)

    async def clear(self, key: str) -> None:
        """Drop a counter."""
        self._counts.pop(key)
        self._hits.pop(key)

    async def check(self) -> bool:
        """Return True: memory is always reachable."""
        return True

    async def reset(self) -> int:
        """Drop all counters; return how many there were."""
        return self._counts.clear() + self._hits.clear()

    def state_of(self, key: str) -> tuple[float, int | list[float]] | None:
        """Return when a counter expires, and its value or the times of its hits, newest first; None without one."""
        now = self._clock.monotonic()
        counter, hits = self._counts.get(key, now), self._hits.get(key, now)
        if counter is not None:
            return counter.expires, counter.value
        return (hits.expires, list(hits.times)) if hits is not None else None

    def restore(self, key: str, expires: float, state: int | list[float]) -> None:
        """Set a counter to what `state_of` returned."""
        now = self._clock.monotonic()
        if isinstance(state, int):
            self._counts.put(key, _Count(expires), now).value = state
        else:
            hits = self._hits.put(key, _Hits(), now)
            hits.times.extend(state)
            hits.expires = expires

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
        """Drop the hits before `since`, and return the number of those that are left."""
        times = self.times
        while times and times[-1] < since:
            times.pop()
        return len(times)
