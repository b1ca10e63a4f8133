"""proxy/journal/sqlite.py: the suite of all journals, and what only a file has to do."""

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings

from proxy.journal.sqlite import SqliteJournal
from proxy.journal.sqlite_shelf import SqliteShelf
from proxy.kernel.journal import Claim, JournalFull
from proxy.kernel.store import StoreUnavailable
from proxy.testing import ManualClock
from tests.support.journals import (
    ANN,
    BOB,
    START,
    STEPS,
    JournalContract,
    Step,
    check_against_model,
    claim,
    entry,
    state,
)
from tests.support.process import ROOT, start_process


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
async def journal(path: Path, clock: ManualClock) -> AsyncIterator[SqliteJournal]:
    opened = SqliteJournal(str(path), clock)
    await opened.connect()
    yield opened
    await opened.aclose()


@pytest.fixture
def other(journal: SqliteJournal) -> SqliteJournal:
    return journal


class TestSqliteJournal(JournalContract):
    """Runs the suite."""


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
async def test_any_sequence_of_steps_does_what_the_model_does(steps: list[Step]) -> None:
    clock = ManualClock(START)
    with TemporaryDirectory() as folder:
        journal = SqliteJournal(f"{folder}/state.db", clock)
        await journal.connect()
        await check_against_model(journal, clock, steps)
        await journal.aclose()


async def test_only_its_owner_may_read_the_files(journal: SqliteJournal, path: Path) -> None:
    await journal.add(entry())
    files = list(path.parent.iterdir())
    assert path in files
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


async def test_everything_is_there_after_it_was_opened_again(
    journal: SqliteJournal, path: Path, clock: ManualClock
) -> None:
    names = [(await journal.add(entry(idempotency_key=f"k{number}", cost=number + 1))).id for number in range(5)]
    done = await claim(journal)
    await journal.begin(done, 200, [("content-type", "text/plain"), ("x", "ü")])
    await journal.append(done, b"\0\xffwords")
    await journal.finish(done, "completed", usage={"tokens_out": 4})
    before = [await journal.get(name) for name in names]
    await journal.aclose()
    again = SqliteJournal(str(path), clock)
    await again.connect()
    assert [await again.get(name) for name in names] == before
    assert await again.read(done.entry.id, 0, 100) == b"\0\xffwords"
    assert await again.body(names[3]) == entry().body
    assert (await again.add(entry(idempotency_key="k3"))).id == names[3]
    assert (await claim(again)).entry.id == names[1]
    await again.aclose()


async def test_what_was_left_running_is_taken_up(journal: SqliteJournal, path: Path, clock: ManualClock) -> None:
    unread, read, live = await journal.add(entry()), await journal.add(entry()), await journal.add(entry(kind="live"))
    for held in (await claim(journal), await claim(journal), Claim(live, b"", live.fence)):
        await journal.append(held, b"half an answer")
    assert await journal.read(read.id, 0, 4) == b"half"
    await journal.aclose()
    again = SqliteJournal(str(path), clock)
    await again.connect()
    assert [await state(again, one.id) for one in (unread, read, live)] == ["queued", "failed", "failed"]
    ended = await again.get(read.id)
    assert ended is not None
    assert (ended.error or "").startswith("owner_lost: ")
    assert await again.read(read.id, 0, 100) == b"half an answer"
    assert await again.read(unread.id, 0, 100) == b""
    held = await claim(again)
    assert (held.entry.id, held.fence, held.entry.attempts) == (unread.id, 2, 2)
    await again.aclose()


async def test_many_that_come_at_once_share_a_few_transactions(journal: SqliteJournal) -> None:
    before = journal._writer.commits
    await asyncio.gather(*(journal.add(entry()) for _ in range(500)))
    assert journal._writer.commits - before <= 5
    assert (await journal.counts())["queued"] == 500


async def test_another_process_is_told_that_the_file_is_in_use(journal: SqliteJournal, path: Path) -> None:
    script = """
import asyncio, sys
from proxy.journal.sqlite import SqliteJournal
from proxy.kernel.store import StoreUnavailable
from proxy.services.system_clock import SystemClock

async def main():
    try:
        await SqliteJournal(sys.argv[1], SystemClock()).connect()
    except StoreUnavailable as error:
        print(error)

asyncio.run(main())
"""
    await journal.add(entry())
    process = await start_process(sys.executable, "-c", script, str(path), cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert said.decode() == f"another process has {path}; one proxy at a time can use it\n"
    await journal.add(entry())  # and its owner goes on


async def test_an_acknowledged_entry_survives_a_kill(path: Path, clock: ManualClock) -> None:
    """A child acknowledges 500 entries, as many at once as a burst brings, and is killed at the last one."""
    script = """
import asyncio, sys
from proxy.journal.sqlite import SqliteJournal
from proxy.services.system_clock import SystemClock
from tests.support.journals import entry

async def add(journal):
    print((await journal.add(entry(body=b"x" * 2000))).id, flush=True)

async def main():
    journal = SqliteJournal(sys.argv[1], SystemClock())
    await journal.connect()
    for _ in range(10):
        await asyncio.gather(*(add(journal) for _ in range(50)))
    await asyncio.Event().wait()

asyncio.run(main())
"""
    process = await start_process(sys.executable, "-c", script, str(path), cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    names = [(await process.stdout.readline()).decode().strip() for _ in range(500)]
    process.kill()
    await process.wait()
    assert len(set(names)) == 500
    journal = SqliteJournal(str(path), clock)
    await journal.connect()
    for name in names:
        assert await state(journal, name) == "queued"
        assert await journal.body(name) == b"x" * 2000
    await journal.aclose()


async def test_a_full_disk_refuses_and_harms_nothing(path: Path, clock: ManualClock) -> None:
    journal = SqliteJournal(str(path), clock, most_bytes=300_000)
    await journal.connect()
    await journal.add(entry())
    held = await claim(journal)
    await journal.append(held, b"a" * 50_000)
    waiting = await journal.add(entry(body=b"b" * 50_000))
    for many in (1, 5):
        refused = await asyncio.gather(
            *(journal.add(entry(body=b"c" * 290_000)) for _ in range(many)), return_exceptions=True
        )
        assert [getattr(one, "bound", one) for one in refused] == ["bytes"] * many
    with pytest.raises(JournalFull) as caught:
        await journal.append(held, b"d" * 290_000)
    assert caught.value.bound == "bytes"
    assert await journal.append(held, b"e") == 50_001
    assert await journal.read(held.entry.id, 0, 100_000) == b"a" * 50_000 + b"e"
    assert await state(journal, waiting.id) == "queued"
    assert dict(await journal.counts()) == {"running": 1, "queued": 1}
    await journal.delete(held.entry.id)
    assert (await claim(journal)).body == b"b" * 50_000
    await journal.add(entry(body=b"f" * 60_000))
    await journal.aclose()


async def test_a_claim_that_is_cancelled_is_given_back(journal: SqliteJournal) -> None:
    new = await journal.add(entry())
    claiming = asyncio.create_task(journal.claim("one", attempts=1, lost_after=60))
    await asyncio.sleep(0)
    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming
    held = await claim(journal, attempts=1)
    assert (held.entry.id, held.entry.attempts) == (new.id, 1)


async def test_only_words_find_no_room(path: Path, clock: ManualClock) -> None:
    """All other calls say of a full file that it fails, as they do of a full Redis: the same callers try again."""
    journal = SqliteJournal(str(path), clock, most_bytes=300_000)
    await journal.connect()
    waiting = await journal.add(entry())
    held = await claim(journal)
    appends = await asyncio.gather(*(journal.append(held, b"x" * 2000) for _ in range(200)), return_exceptions=True)
    assert isinstance(appends[-1], JournalFull)
    long = "x" * 50_000
    for write in (
        journal.begin(held, 200, [("x", long)]),
        journal.set_meta(held.entry.id, {"x": long}),
        journal.finish(held, "failed", error=long),
        journal.cancel(waiting.id, long),
    ):
        with pytest.raises(StoreUnavailable, match="full"):
            await write
    assert (await journal.finish(held, "failed", error="answer_too_long: x")).over
    assert await journal.delete(held.entry.id)
    await journal.add(entry())
    await journal.aclose()


async def test_what_is_left_of_a_disk_is_for_what_ends_and_deletes(path: Path, clock: ManualClock) -> None:
    """A log that fills a disk to its end can neither be copied into the file nor take what would free room."""
    roomy = SqliteJournal(str(path), clock)
    await roomy.connect()
    kept, waiting = await roomy.add(entry()), await roomy.add(entry(BOB))
    await roomy.aclose()
    journal = SqliteJournal(str(path), clock, reserve=2**62)
    await journal.connect()
    held = await claim(journal)
    for put in (journal.add(entry()), journal.append(held, b"x")):
        with pytest.raises(JournalFull, match="the disk of the journal has less than") as caught:
            await put
        assert caught.value.bound == "bytes"
    await journal.begin(held, 200, [])
    assert (await journal.finish(held, "failed", error="answer_too_long: x")).over
    assert await journal.cancel(waiting.id, "no") is not None
    assert await journal.delete(kept.id)
    assert dict(await journal.counts()) == {"cancelled": 1}
    await journal.aclose()


async def test_a_full_disk_costs_those_who_wait_nothing(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit is taken back by itself: who waits is neither read again nor put in another order."""
    journal = SqliteJournal(str(path), clock, most_bytes=300_000)
    await journal.connect()
    for _ in range(4):
        await journal.add(entry(ANN, cost=100))
    assert (await claim(journal)).entry.caller == ANN
    await journal.add(entry(BOB, cost=100))
    monkeypatch.setattr(SqliteShelf, "rows", None)
    for _ in range(3):
        with pytest.raises(JournalFull):
            await journal.add(entry(body=b"c" * 290_000))
    assert [(await claim(journal)).entry.caller for _ in range(4)] == [BOB, ANN, ANN, ANN]
    await journal.aclose()


async def test_nothing_is_left_of_what_was_deleted(journal: SqliteJournal, path: Path) -> None:
    new = await journal.add(entry(body=b"a very private question"))
    held = await claim(journal)
    await journal.append(held, b"a very private answer")
    await journal.delete(new.id)
    await journal.aclose()
    for file in path.parent.iterdir():
        assert b"very private" not in file.read_bytes()


async def test_a_closed_journal_says_so(path: Path, clock: ManualClock) -> None:
    journal = SqliteJournal(str(path), clock)
    with pytest.raises(StoreUnavailable):
        await journal.get("x")
    await journal.connect()
    await journal.aclose()
    with pytest.raises(StoreUnavailable):
        await journal.add(entry())


async def test_tables_of_a_later_release_are_left_alone(path: Path, clock: ManualClock) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    journal = SqliteJournal(str(path), clock)
    with pytest.raises(StoreUnavailable, match="its tables have version 99"):
        await journal.connect()
    await journal.aclose()
