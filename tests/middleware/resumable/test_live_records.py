"""The beats of many records, over a journal in memory."""

from typing import Any

from middleware.resumable import live_records
from middleware.resumable.live_records import SILENT, LiveRecords
from middleware.resumable.record import Record
from proxy.journal.memory import MemoryJournal
from proxy.kernel.errors import Cancelled
from proxy.kernel.journal import BEAT, NewEntry, StoredCaller
from proxy.testing.clocks import ManualClock
from tests.support.backend import eventually


async def record(journal: MemoryJournal, clock: ManualClock, number: int) -> tuple[Record, list[Any]]:
    told: list[Any] = []
    later = clock.time() + 60
    new = NewEntry(id=f"{number:016x}", kind="live", caller=StoredCaller(), expires_at=later)
    made = Record(journal, new, told.append)
    assert await made.add(200, [])
    return made, told


async def test_a_record_that_was_cancelled_elsewhere_is_found_and_the_others_go_on(monkeypatch: Any) -> None:
    monkeypatch.setattr(live_records, "EVERY", 0.001)
    clock = ManualClock()
    journal = MemoryJournal(clock)
    records = LiveRecords(journal)
    (first, told), (second, others) = [await record(journal, clock, number) for number in range(2)]
    records.add(first)
    records.add(second)
    await journal.cancel(first.new.id, "enough")
    await eventually(lambda: bool(told))
    assert isinstance(told[0], Cancelled)
    assert not others
    for one in (first, second):
        records.discard(one)
        one.close()
    await eventually(lambda: records._task is None)


async def test_a_record_that_does_not_grow_says_that_it_is_still_written() -> None:
    clock = ManualClock()
    journal = MemoryJournal(clock)
    records = LiveRecords(journal)
    silent, _ = await record(journal, clock, 1)
    records._records.add(silent)
    for _ in range(3 * SILENT):
        await records._beat_once()
    entry = await journal.get(silent.new.id)
    assert entry is not None
    assert entry.meta[BEAT] == 3 * SILENT
    silent.close()


async def test_a_record_is_deleted_when_its_client_needs_it_no_more() -> None:
    clock = ManualClock()
    journal = MemoryJournal(clock)
    done, _ = await record(journal, clock, 1)
    await done.end("completed", None, {})
    LiveRecords(journal).delete_after(done, 0.0)
    await eventually(lambda: journal._ledger.get(done.new.id) is None)
