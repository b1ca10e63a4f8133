"""proxy/stores/limits_storage.py: what the strategies of `limits` expect of a storage, and that no hit costs a task."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import RateLimitItemPerMinute
from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from proxy.stores.limits_storage import MemoryWindows
from proxy.testing import ManualClock

FIVE = RateLimitItemPerMinute(5)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def storage(clock: ManualClock) -> MemoryWindows:
    return MemoryWindows(clock)


async def test_moving_window(storage: MemoryWindows, clock: ManualClock) -> None:
    limiter = MovingWindowRateLimiter(storage)
    start = clock.time()
    assert await limiter.hit(FIVE, "a", cost=2)
    clock.advance(30)
    assert await limiter.hit(FIVE, "a", cost=3)
    assert not await limiter.test(FIVE, "a")
    assert not await limiter.hit(FIVE, "a")
    assert not await limiter.hit(FIVE, "b", cost=6)
    stats = await limiter.get_window_stats(FIVE, "a")
    assert (stats.reset_time, stats.remaining) == (start + 60, 0)
    clock.advance(30.1)
    assert (await limiter.get_window_stats(FIVE, "a")).remaining == 2
    assert await limiter.hit(FIVE, "a", cost=2)
    assert not await limiter.hit(FIVE, "a")


async def test_fixed_window(storage: MemoryWindows, clock: ManualClock) -> None:
    limiter = FixedWindowRateLimiter(storage)
    start = clock.time()
    assert await limiter.hit(FIVE, "a", cost=5)
    clock.advance(59)
    assert not await limiter.test(FIVE, "a")
    assert await limiter.get_window_stats(FIVE, "a") == (start + 60, 0)
    clock.advance(1.1)
    assert await limiter.get_window_stats(FIVE, "a") == (clock.time(), 5)
    assert await limiter.hit(FIVE, "a")


async def test_counters_can_be_cleared(storage: MemoryWindows) -> None:
    for limiter in (MovingWindowRateLimiter(storage), FixedWindowRateLimiter(storage)):
        for name in ("a", "b"):
            await limiter.hit(FIVE, name, cost=5)
        await limiter.clear(FIVE, "a")
        assert await limiter.hit(FIVE, "a")
    assert len(storage) == 3  # of "a" the second strategy's alone: a counter is cleared for both
    assert await storage.reset() == 3
    assert len(storage) == 0
    assert await storage.check()


async def test_no_hit_starts_a_task(storage: MemoryWindows) -> None:
    before = asyncio.all_tasks()
    for limiter in (MovingWindowRateLimiter(storage), FixedWindowRateLimiter(storage)):
        await limiter.hit(FIVE, "a")
        assert asyncio.all_tasks() == before


@given(st.lists(st.tuples(st.integers(1, 6), st.floats(0, 50)), max_size=40))
def test_no_window_ever_holds_more_than_its_amount(hits: list[tuple[int, float]]) -> None:
    clock = ManualClock()
    limiter = MovingWindowRateLimiter(MemoryWindows(clock))
    taken: list[tuple[float, int]] = []

    async def run() -> None:
        for cost, pause in hits:
            inside = sum(number for at, number in taken if at >= clock.time() - 60)
            assert await limiter.hit(FIVE, "a", cost=cost) == (inside + cost <= 5)
            if inside + cost <= 5:
                taken.append((clock.time(), cost))
            clock.advance(pause)

    asyncio.run(run())
