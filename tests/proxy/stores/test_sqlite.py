"""proxy/stores/sqlite.py: the suite of all stores, and what is still known after a restart."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from structlog.testing import capture_logs

from proxy.kernel.quotas import Quota
from proxy.kernel.sqlite_file import open_file
from proxy.kernel.store import Store, StoreUnavailable
from proxy.stores.sqlite import SUFFIX, SqliteStore
from proxy.testing import ManualClock
from tests.support.stores import START, STEPS, Step, StoreContract, check_against_model, settle, used, windows

NEVER = 3600.0
QUOTA = Quota(
    "ann", requests=windows("9/minute", "90/day"), tokens=windows("500/minute", "5000/day", "50000/month"), streams=3
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state.db")


async def opened(path: str, clock: ManualClock) -> SqliteStore:
    store = SqliteStore(path, clock, every=NEVER)
    await store.connect()
    return store


@pytest.fixture
async def store(path: str, clock: ManualClock) -> AsyncIterator[SqliteStore]:
    store = await opened(path, clock)
    yield store
    await store.aclose()


class TestSqliteStore(StoreContract):
    """Runs the suite."""


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_any_sequence_of_requests_counts_like_the_model(steps: list[Step]) -> None:
    async def open_store(clock: ManualClock) -> Store:
        return SqliteStore("unused.db", clock)

    asyncio.run(check_against_model(open_store, steps, monotonic=True))


async def restarted(store: SqliteStore, path: str, seconds: float) -> tuple[SqliteStore, ManualClock]:
    """Return the store of a process that starts later, whose monotonic clock begins anew."""
    later = ManualClock(store._clock.time() + seconds)
    await store.aclose()
    return await opened(path, later), later


async def spend(store: Store, clock: ManualClock, *tokens: int) -> None:
    for number in tokens:
        await settle(store, (await store.admit([QUOTA])).reservation, number)
        clock.advance(10)


async def test_everything_is_still_counted_after_a_restart(store: SqliteStore, path: str, clock: ManualClock) -> None:
    clock.advance(123.4)
    await spend(store, clock, 100, 200)
    before = await store.look([QUOTA])
    again, _ = await restarted(store, path, 0)
    after = await again.look([QUOTA])
    assert [level.used for level in after] == [level.used for level in before] == [0, 2, 2, 300, 300, 300]
    for one, other in zip(before, after, strict=True):
        assert other.resets_in == pytest.approx(one.resets_in, abs=1.01)  # a slice of a minute
    await again.aclose()


async def test_windows_go_on_while_nothing_runs(store: SqliteStore, path: str, clock: ManualClock) -> None:
    await spend(store, clock, 100, 200)
    again, later = await restarted(store, path, 42.5)  # 62.5 s after the first one, 52.5 s after the second
    assert await used(again, QUOTA) == [0, 1, 2, 200, 300, 300]
    later.advance(10)
    assert await used(again, QUOTA) == [0, 0, 2, 0, 300, 300]
    again, _ = await restarted(again, path, 86400)  # the month ends with the day of START
    assert await used(again, QUOTA) == [0] * 6
    await again.aclose()


async def test_a_calendar_that_was_set_back_locks_nobody_out(store: SqliteStore, path: str, clock: ManualClock) -> None:
    await spend(store, clock, *[10] * 9)
    again, later = await restarted(store, path, -3600)
    later.advance(61)
    assert (await used(again, QUOTA))[1] == 0
    assert (await used(again, QUOTA))[3] == 0
    await again.aclose()


async def test_a_killed_process_forgets_what_was_not_written(store: SqliteStore, path: str, clock: ManualClock) -> None:
    await spend(store, clock, 100)
    await store.save()
    await spend(store, clock, 200)
    copy = path + ".copy"
    for suffix in ("", "-wal"):
        shutil.copyfile(path + SUFFIX + suffix, copy + SUFFIX + suffix)
    left = await opened(copy, clock)
    assert await used(left, QUOTA) == [0, 1, 1, 100, 100, 100]
    await left.aclose()


async def test_it_writes_by_itself(path: str, clock: ManualClock) -> None:
    store = SqliteStore(path, clock, every=0.01)
    await store.connect()
    written = asyncio.Event()
    save = store.save

    async def saving() -> None:
        await save()
        written.set()

    store.save = saving  # type: ignore[method-assign]
    await spend(store, clock, 5)
    await written.wait()
    assert store._connection is not None
    assert not store._windows.noted
    await store.aclose()


async def test_a_counter_that_was_cleared_does_not_come_back(store: SqliteStore, path: str, clock: ManualClock) -> None:
    await store.limits.incr("k", 60)
    await store.save()
    await store.limits.clear("k")
    again, _ = await restarted(store, path, 1)
    assert await again.limits.get("k") == 0
    await again.aclose()


async def test_what_has_expired_leaves_the_file(store: SqliteStore, path: str, clock: ManualClock) -> None:
    for number in range(20):
        await store.limits.incr(str(number), 60 * (number + 1))
    again, _ = await restarted(store, path, 600)
    await again.aclose()
    connection = open_file(Path(path + SUFFIX))
    assert connection.execute("SELECT count(*) FROM counters").fetchone() == (11,)
    connection.close()


async def test_a_file_that_cannot_be_written_is_told_once_and_made_up_for(
    store: SqliteStore, path: str, clock: ManualClock
) -> None:
    connection = store._connection
    assert connection is not None
    await asyncio.get_running_loop().run_in_executor(store._thread, connection.execute, "PRAGMA query_only=ON")
    with capture_logs() as lines:
        for tokens in (100, 200):
            await spend(store, clock, tokens)
            await store.save()
        await asyncio.get_running_loop().run_in_executor(store._thread, connection.execute, "PRAGMA query_only=OFF")
        await store.save()
    assert [line["event"] for line in lines] == ["counters_not_saved", "counters_saved"]
    again, _ = await restarted(store, path, 0)
    assert await used(again, QUOTA) == [0, 2, 2, 300, 300, 300]
    await again.aclose()


async def test_two_processes_do_not_count_in_one_file(store: SqliteStore, path: str, clock: ManualClock) -> None:
    with pytest.raises(StoreUnavailable, match="another process has"):
        await SqliteStore(path, clock).connect()


async def test_a_file_that_is_no_database_is_refused(path: str, clock: ManualClock) -> None:
    connection = sqlite3.connect(path + SUFFIX)
    connection.execute("CREATE TABLE counters (word)")
    connection.close()
    store = SqliteStore(path, clock)
    with pytest.raises(StoreUnavailable, match="cannot use"):
        await store.connect()
    await store.aclose()
