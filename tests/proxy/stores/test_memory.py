"""proxy/stores/memory.py: the suite of all stores, and that nothing stays behind."""

import asyncio

import pytest
from hypothesis import given

from proxy.kernel.quotas import Quota
from proxy.kernel.store import Store
from proxy.stores.memory import MemoryStore
from proxy.testing import ManualClock
from tests.support.stores import START, STEPS, Step, StoreContract, check_against_model, settle, used, windows


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    return MemoryStore(clock)


class TestMemoryStore(StoreContract):
    """Runs the suite."""


@given(STEPS)
def test_any_sequence_of_requests_counts_like_the_model(steps: list[Step]) -> None:
    async def opened(clock: ManualClock) -> Store:
        return MemoryStore(clock)

    asyncio.run(check_against_model(opened, steps, monotonic=True))


async def test_callers_who_are_gone_do_not_stay_in_memory(store: MemoryStore, clock: ManualClock) -> None:
    for number in range(1000):
        quota = Quota(f"caller {number}", windows("5/minute"), windows("100/minute"), 2)
        await settle(store, (await store.admit([quota], 10)).reservation, 10)
        clock.advance(61)
    assert repr(store) == "<MemoryStore 1 request and 2 token counters, 0 reservations>"


@pytest.mark.parametrize("hours", [-48, -1, 1, 48])
async def test_a_clock_that_is_set_moves_the_day_and_nothing_else(
    store: MemoryStore, clock: ManualClock, hours: int
) -> None:
    quota = Quota("q", windows("1/minute", "9/day"), windows("10/minute", "90/day"))
    await settle(store, (await store.admit([quota], 5)).reservation, 20)
    clock.set(clock.time() + hours * 3600)
    same_day = abs(hours) == 1
    assert await used(store, quota) == [1, int(same_day), 20, 20 * same_day]
    assert [round(level.resets_in) for level in (await store.admit([quota])).full] == [60, 61]
    clock.advance(61.01)
    assert not (await store.admit([quota])).full


async def test_it_stands_in_for_itself(store: MemoryStore) -> None:
    assert store.local is store
    await store.connect()
    await store.aclose()
