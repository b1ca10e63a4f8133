"""proxy/stores/memory.py: the suite of all stores, and that nothing stays behind."""

import asyncio

import pytest
from hypothesis import given

from proxy.quotas import Quota
from proxy.services import Store
from proxy.stores.memory import MemoryStore
from tests.support.clock import ManualClock
from tests.support.stores import START, STEPS, Step, StoreContract, check_against_model, settle, windows


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

    asyncio.run(check_against_model(opened, steps))


async def test_callers_who_are_gone_do_not_stay_in_memory(store: MemoryStore, clock: ManualClock) -> None:
    for number in range(1000):
        quota = Quota(f"caller {number}", windows("5/minute"), windows("100/minute"), 2)
        await settle(store, (await store.admit([quota], 10)).lease, 10)
        clock.advance(61)
    assert repr(store) == "<MemoryStore 1 request and 2 token counters, 0 leases>"


async def test_it_stands_in_for_itself(store: MemoryStore) -> None:
    assert store.local is store
    await store.connect()
    await store.aclose()
