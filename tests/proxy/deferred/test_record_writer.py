"""A record is written in batches, each byte once, whatever the journal does."""

import pytest

from proxy.deferred import record_writer
from proxy.deferred.record_writer import MOST, RecordWriter
from proxy.kernel.chunk_writer import ENOUGH
from proxy.kernel.journal import Fenced, JournalFull
from proxy.kernel.store import StoreUnavailable
from tests.support.runs import Failing, claimed, record

HEADERS = [("content-type", "x")]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_writer, "PAUSE", 0.001)


async def test_a_thousand_chunks_are_a_few_calls() -> None:
    journal = Failing()
    claim = await claimed(journal)
    writer = RecordWriter(journal, claim)
    writer.begin(200, HEADERS)
    for number in range(1000):
        assert writer.take(b"%d," % number)
    await writer.end(keep=True)
    assert await record(journal, claim.entry.id) == b"".join(b"%d," % number for number in range(1000))
    assert journal.calls == ["begin", "append"]
    entry = await journal.get(claim.entry.id)
    assert entry is not None
    assert (entry.status, entry.answer_headers) == (200, tuple(HEADERS))


async def test_what_is_much_is_written_at_once() -> None:
    journal = Failing()
    claim = await claimed(journal)
    writer = RecordWriter(journal, claim)
    writer.begin(200, HEADERS)
    writer.take(b"x" * ENOUGH)
    await writer.room()
    assert writer.recorded == ENOUGH


async def test_a_backend_waits_for_a_slow_journal() -> None:
    writer = RecordWriter(journal := Failing(), await claimed(journal))
    writer.begin(200, HEADERS)
    assert writer.take(b"x" * (MOST - 1))
    assert not writer.take(b"x")
    await writer.room()
    assert writer.take(b"x")
    await writer.end(keep=True)
    assert writer.recorded == MOST + 1


async def test_an_error_is_kept_back() -> None:
    journal = Failing()
    claim = await claimed(journal)
    writer = RecordWriter(journal, claim)
    writer.begin(502, HEADERS)
    writer.take(b"error")
    await writer.end(keep=False)
    assert journal.calls == []
    await writer.end(keep=True)
    assert await record(journal, claim.entry.id) == b"error"


async def test_an_empty_answer_has_a_beginning() -> None:
    journal = Failing()
    claim = await claimed(journal)
    writer = RecordWriter(journal, claim)
    writer.begin(200, HEADERS)
    await writer.end(keep=True)
    assert journal.calls == ["begin"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_call_that_fails_writes_its_bytes_once(when: str) -> None:
    journal = Failing()
    claim = await claimed(journal)
    writer = RecordWriter(journal, claim)
    writer.begin(200, HEADERS)
    getattr(journal, when).extend(["begin", "append", "append"])
    writer.take(b"once")
    await writer.end(keep=True)
    writer.take(b" and no more")
    await writer.end(keep=True)
    assert writer.error is None
    assert await record(journal, claim.entry.id) == b"once and no more"


async def test_it_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_writer, "PATIENCE", 0.0)
    journal = Failing()
    writer = RecordWriter(journal, await claimed(journal))
    writer.begin(200, HEADERS)
    journal.before.extend(["append"] * 100)
    writer.take(b"x")
    await writer.end(keep=True)
    assert isinstance(writer.error, StoreUnavailable)


async def test_whoever_is_replaced_writes_nothing_more() -> None:
    journal = Failing()
    claim = await claimed(journal)
    writer = RecordWriter(journal, claim)
    writer.begin(200, HEADERS)
    await journal.cancel(claim.entry.id, "enough")
    writer.take(b"x")
    await writer.end(keep=True)
    assert isinstance(writer.error, Fenced)
    assert writer.take(b"y" * MOST)
    await writer.room()
    assert await record(journal, claim.entry.id) == b""


async def test_whoever_is_replaced_while_the_journal_is_away() -> None:
    journal = Failing()
    claim = await claimed(journal)
    writer = RecordWriter(journal, claim)
    writer.begin(200, HEADERS)
    journal.before.append("append")
    await journal.delete(claim.entry.id)
    writer.take(b"x")
    await writer.end(keep=True)
    assert isinstance(writer.error, Fenced)


async def test_a_record_has_an_end() -> None:
    journal = Failing()
    claim = await claimed(journal, most_answer=10)
    writer = RecordWriter(journal, claim)
    writer.begin(200, HEADERS)
    writer.take(b"x" * 11)
    await writer.end(keep=True)
    assert isinstance(writer.error, JournalFull)
