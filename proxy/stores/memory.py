"""Counters in this process: exact and fast, and lost when it ends."""

from collections import deque
from collections.abc import Sequence
from itertools import count

from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from proxy.kernel.clock import Clock
from proxy.kernel.lru import Recent
from proxy.kernel.quotas import SLICES, Admission, Level, Quota, Reservation, Window
from proxy.kernel.store import Store
from proxy.stores.expiring import MOST, ExpiringDict
from proxy.stores.limits_storage import MemoryWindows


class MemoryStore(Store):
    """The store of one process.

    No method ever waits, so nothing changes between what a method finds and what it charges: each decision is atomic.
    Days and months follow the calendar; all other windows use the monotonic clock.
    """

    url: str = "memory"

    def __init__(self, clock: Clock, windows: MemoryWindows | None = None) -> None:
        self.local = self
        self._clock = clock
        self._limits = MemoryWindows(clock) if windows is None else windows
        self._moving = MovingWindowRateLimiter(self._limits)
        self._fixed = FixedWindowRateLimiter(self._limits)
        self._tokens: ExpiringDict[_Tokens] = ExpiringDict()
        self._running: dict[str, _Running] = {}
        self._known_full: Recent[str, None] = Recent(MOST)
        """Keys of quotas that were full; the one noted longest ago is dropped first."""
        self._ids = count()

    @property
    def limits(self) -> MemoryWindows:
        """The storage for the strategies of the `limits` library."""
        return self._limits

    async def connect(self) -> None:
        """Do nothing: memory needs no connection."""

    async def aclose(self) -> None:
        """Do nothing: there is no connection to close."""

    async def admit(self, quotas: Sequence[Quota], tokens: int = 0) -> Admission:
        """See `Store.admit`; never unavailable."""
        levels = await self.look(quotas)
        full = tuple([level for level in levels if level.full])
        if full:
            for level in full:
                self._known_full.note(quotas[level.quota].key, None)
            return Admission(levels, full)
        today = self._clock.time()
        reservation = None
        for quota in quotas:
            for window in quota.requests:
                await self._strategy(window).hit(window, quota.key, window.place(today)[0])
            if quota.reserves:
                reservation = reservation or Reservation(str(next(self._ids)), tuple(quotas), tokens)
                running = self._running.get(quota.key)
                if running is None:
                    running = self._running[quota.key] = _Running()
                running.reservations.add(reservation.id)
                running.tokens += tokens
        costs = {"requests": 1, "streams": 1, "tokens": tokens}
        charged = tuple([level.charged(costs[level.unit]) for level in levels])
        for level in charged:
            if level.full:
                self._known_full.note(quotas[level.quota].key, None)
        return Admission(charged, (), reservation)

    def settle(self, reservation: Reservation, tokens: int) -> None:
        """See `Store.settle`; it is done at once."""
        today, now = self._clock.time(), self._clock.monotonic()
        for quota in reservation.quotas:
            running = self._running.get(quota.key)
            if running is not None and reservation.id in running.reservations:
                running.reservations.discard(reservation.id)
                running.tokens -= reservation.tokens
                if not running.reservations:
                    del self._running[quota.key]
            for window in quota.tokens if tokens else ():
                place, ends = window.place(today)
                key = f"{quota.key}/{place}"
                spent = self._tokens.get(key, now) or self._tokens.put(key, _Tokens(), now)
                spent.add(tokens, window, now, ends - today if ends else window.rate.per + window.slice)
                if spent.total >= window.amount:
                    self._known_full.note(quota.key, None)

    async def look(self, quotas: Sequence[Quota]) -> tuple[Level, ...]:
        """See `Store.look`; never unavailable."""
        today, now = self._clock.time(), self._clock.monotonic()
        levels = []
        for number, quota in enumerate(quotas):
            running = self._running.get(quota.key) if quota.reserves else None
            if quota.streams is not None:
                levels.append(Level(number, "streams", quota.streams, len(running.reservations) if running else 0, 0.0))
            for window in quota.requests:
                place, ends = window.place(today)
                resets, left = await self._strategy(window).get_window_stats(window, quota.key, place)
                used = window.amount - left
                resets_in = (ends or resets) - today if used or ends else 0.0
                levels.append(Level(number, "requests", window.amount, used, resets_in, window))
            for window in quota.tokens:
                place, ends = window.place(today)
                reserved = running.tokens if running else 0
                spent = self._tokens.get(f"{quota.key}/{place}", now)
                used, resets_in = spent.level(window, now, reserved) if spent else (reserved, 0.0)
                levels.append(Level(number, "tokens", window.amount, used, ends - today if ends else resets_in, window))
        return tuple(levels)

    async def known(self, quotas: Sequence[Quota]) -> tuple[Level, ...]:
        """See `Store.known`; returns all levels where a quota was full when it was last looked at."""
        suspects = [quota.key for quota in quotas if quota.key in self._known_full]
        if not suspects:
            return ()
        levels = await self.look(quotas)
        full = {quotas[level.quota].key for level in levels if level.full}
        for key in suspects:
            if key not in full:
                self._known_full.pop(key)
        return levels

    def spent(self, key: str) -> tuple[float, float, list[tuple[int, int]]] | None:
        """Return when a token counter expires, the seconds of its slices, and of each its number and tokens."""
        spent = self._tokens.get(key, self._clock.monotonic())
        return (spent.expires, spent.size, [(number, tokens) for number, tokens in spent.slices]) if spent else None

    def restore_spent(self, key: str, expires: float, size: float, slices: Sequence[tuple[int, int]]) -> None:
        """Set a token counter to what `spent` returned."""
        spent = self._tokens.put(key, _Tokens(), self._clock.monotonic())
        spent.expires, spent.size = expires, size
        spent.slices.extend([number, tokens] for number, tokens in slices)
        spent.total = sum(tokens for _, tokens in slices)

    def _strategy(self, window: Window) -> MovingWindowRateLimiter | FixedWindowRateLimiter:
        return self._moving if window.calendar is None else self._fixed

    def __repr__(self) -> str:
        running = sum(len(one.reservations) for one in self._running.values())
        return (
            f"<MemoryStore {len(self._limits)} request and {len(self._tokens)} token counters, {running} reservations>"
        )


class _Running:
    """The running reservations of one quota, and the sum of the tokens that they have reserved."""

    __slots__ = ("reservations", "tokens")

    def __init__(self) -> None:
        self.reservations: set[str] = set()
        self.tokens = 0


class _Tokens:
    """The tokens used in one window, as one sum for each slice, oldest first."""

    __slots__ = ("expires", "size", "slices", "total")

    def __init__(self) -> None:
        self.slices: deque[list[int]] = deque()
        self.total = 0
        self.expires = 0.0
        self.size = 0.0

    def add(self, tokens: int, window: Window, now: float, lasts: float) -> None:
        """Add `tokens` to the current slice; the window, or what still counts of it, `lasts` so many seconds more."""
        number = int(now / window.slice) if window.slice else 0
        if self.slices and self.slices[-1][0] >= number:
            self.slices[-1][1] += tokens
        else:
            self.slices.append([number, tokens])
        self.total += tokens
        self.expires = now + lasts
        self.size = window.slice

    def level(self, window: Window, now: float, reserved: int) -> tuple[int, float]:
        """Return the tokens in use, `reserved` ones included, and the seconds until there is more room."""
        size = window.slice
        if not size:
            return self.total + reserved, 0.0
        oldest = int(now / size) - SLICES
        while self.slices and self.slices[0][0] < oldest:
            self.total -= self.slices.popleft()[1]
        used = self.total + reserved
        left, resets_in = used, 0.0
        for number, tokens in self.slices:
            left -= tokens
            resets_in = (number + SLICES + 1) * size - now
            if left < window.amount:
                break
        return used, resets_in
