"""proxy/stores/redis.py on a real server: the suite of all stores, and what only a shared store has to do.

What happens when the server fails is in tests/live/test_redis_failures.py.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from proxy.kernel.quotas import Quota
from proxy.kernel.store import Store
from proxy.services.system_clock import SystemClock
from proxy.stores.redis import RedisStore
from proxy.testing import ManualClock
from tests.support.redis import RedisServer, redis_server
from tests.support.stores import START, STEPS, Step, StoreContract, check_against_model, settle, used, windows

AGES = 10**7
"""Seconds that reservations live where a manual clock makes great steps."""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
async def store(server: RedisServer, clock: ManualClock) -> AsyncIterator[RedisStore]:
    server.command("FLUSHALL")
    opened = RedisStore(server.url, clock, server_time=False, within=5, ttl=AGES)
    yield opened
    await opened.aclose()


@pytest.fixture
async def pair(server: RedisServer) -> AsyncIterator[tuple[RedisStore, RedisStore]]:
    """Two proxies on one server, which keeps the time."""
    server.command("FLUSHALL")
    one, other = (RedisStore(server.url, SystemClock(), within=5) for _ in range(2))
    yield one, other
    await one.aclose()
    await other.aclose()


class TestRedisStore(StoreContract):
    """Runs the suite."""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(STEPS)
def test_any_sequence_of_requests_counts_like_the_model(server: RedisServer, steps: list[Step]) -> None:
    async def opened(clock: ManualClock) -> Store:
        return RedisStore(server.url, clock, server_time=False, within=5, ttl=AGES)

    server.command("FLUSHALL")
    asyncio.run(check_against_model(opened, steps))


async def test_two_proxies_share_every_counter(pair: tuple[RedisStore, RedisStore]) -> None:
    one, other = pair
    quota = Quota("q", windows("3/minute", "9/day"), windows("100/minute"), 2)
    first = await one.admit([quota], 30)
    second = await other.admit([quota], 30)
    assert [level.used for level in second.levels] == [2, 2, 2, 60]
    assert [level.unit for level in (await one.admit([quota], 30)).full] == ["streams"]
    await settle(one, first.reservation, 10)
    await settle(other, second.reservation, 20)
    assert await used(one, quota) == await used(other, quota) == [0, 2, 2, 30]


async def test_a_full_quota_that_nobody_asks_about_again_is_not_remembered(pair: tuple[RedisStore, RedisStore]) -> None:
    store, _ = pair
    once = windows("1/minute")
    assert not (await store.admit([Quota("signature", once, asked_again=False)])).full
    assert (await store.admit([Quota("signature", once, asked_again=False)])).full
    assert len(store._known_full) == 0
    await store.admit([Quota("caller", once)])
    assert len(store._known_full) == 1


async def test_100_requests_at_two_proxies_pass_exactly_the_amount(pair: tuple[RedisStore, RedisStore]) -> None:
    quota = Quota("q", windows("60/minute", "55/day"), windows("100000/minute"), 80)
    admissions = await asyncio.gather(*(store.admit([quota], 30) for store in pair for _ in range(50)))
    assert sum(not admission.full for admission in admissions) == 55


async def test_the_strategies_of_limits_count_in_the_same_places(pair: tuple[RedisStore, RedisStore]) -> None:
    store, _ = pair
    (moving,), (fixed,) = windows("3/minute"), windows("3/day")
    quota = Quota("q", (moving, fixed))
    place = moving.place(SystemClock().time())[0]
    day, ends = fixed.place(SystemClock().time())
    strategies = MovingWindowRateLimiter(store.limits), FixedWindowRateLimiter(store.limits)
    assert not (await store.admit([quota])).full
    for strategy, window, name in ((strategies[0], moving, place), (strategies[1], fixed, day)):
        assert (await strategy.get_window_stats(window, "q", name)).remaining == 2
    assert await strategies[0].hit(moving, "q", place)
    assert await strategies[1].hit(fixed, "q", day)
    assert await used(store, quota) == [2, 2]
    assert not (await store.admit([quota])).full
    refused = await store.admit([quota])
    assert [(level.window, level.used) for level in refused.full] == [(moving, 3), (fixed, 3)]
    assert not await strategies[0].hit(moving, "q", place)
    assert not await strategies[1].test(fixed, "q", day)
    assert ends is not None
    assert (await strategies[1].get_window_stats(fixed, "q", day)).reset_time == pytest.approx(ends, abs=2)


async def test_what_a_process_held_when_it_died_is_free_again(server: RedisServer, clock: ManualClock) -> None:
    server.command("FLUSHALL")
    dead, alive = (RedisStore(server.url, clock, server_time=False, within=5, ttl=30) for _ in range(2))
    quota = Quota("q", tokens=windows("100/minute"), streams=2)
    try:
        for store in (dead, alive):
            assert not (await store.admit([quota], 60)).full
        clock.advance(20)
        await alive._renew(list(alive._keeper._held.values()))
        assert (await alive.admit([quota], 60)).full
        clock.advance(11)
        assert await used(alive, quota) == [1, 60]
        clock.advance(20)
        assert await used(alive, quota) == [0, 0]
    finally:
        await dead.aclose()
        await alive.aclose()


async def test_leases_come_back_after_the_server_lost_its_memory(
    pair: tuple[RedisStore, RedisStore], server: RedisServer
) -> None:
    store, other = pair
    quota = Quota("q", tokens=windows("100/minute"), streams=2)
    reservation = (await store.admit([quota], 60)).reservation
    server.command("FLUSHALL")
    assert await used(other, quota) == [0, 0]
    await store._renew(list(store._keeper._held.values()))
    assert await used(other, quota) == [1, 60]
    await settle(store, reservation, 50)
    assert await used(other, quota) == [0, 50]


async def test_what_was_used_counts_even_where_the_lease_was_lost(
    pair: tuple[RedisStore, RedisStore], server: RedisServer
) -> None:
    store, _ = pair
    quota = Quota("q", tokens=windows("100/minute"))
    reservation = (await store.admit([quota], 60)).reservation
    server.command("FLUSHALL")
    await settle(store, reservation, 42)
    assert await used(store, quota) == [42]


async def test_a_caller_who_leaves_while_the_server_decides_holds_nothing(
    pair: tuple[RedisStore, RedisStore], server: RedisServer
) -> None:
    store, other = pair
    quota = Quota("q", tokens=windows("100/minute"), streams=5)
    await store.connect()
    for turns in range(6):
        task = asyncio.create_task(store.admit([quota], 10))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await store.aclose()
    assert await used(other, quota) == [0, 0]


async def test_who_asks_again_right_after_the_answer_finds_its_place_free(
    pair: tuple[RedisStore, RedisStore],
) -> None:
    store, _ = pair
    quota = Quota("q", streams=1)
    for _ in range(50):
        admission = await store.admit([quota])
        assert admission.reservation is not None
        store.settle(admission.reservation, 0)  # on its way, not awaited
    assert (await store.admit([quota])).reservation is not None


async def test_every_key_is_on_one_node_of_a_cluster_and_ends_by_itself(
    pair: tuple[RedisStore, RedisStore], server: RedisServer
) -> None:
    store, _ = pair
    quota = Quota("q", windows("3/minute", "9/day"), windows("100/minute", "1000/month"), 2)
    await settle(store, (await store.admit([quota], 30)).reservation, 10)
    await store.admit([quota], 30)
    keys = [line for line in server.command("KEYS", "*").split(b"\r\n") if line.startswith(b"ollama-proxy")]
    assert len(keys) == 6
    for key in keys:
        assert key.startswith(b"ollama-proxy:{quotas}:q/")
        assert int(server.command("PTTL", key.decode())[1:].split()[0]) > 0


def test_its_repr_hides_the_password() -> None:
    store = RedisStore("redis://:hunter2@127.0.0.1:1/0", SystemClock())
    assert repr(store) == "<RedisStore redis://127.0.0.1:1/0 up <ReservationKeeper 0 reservations held, 0 to settle>>"
