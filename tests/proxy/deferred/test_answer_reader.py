"""Reading a record that grows, over a journal in memory."""

import asyncio

import pytest

from proxy.deferred import answer_reader
from proxy.deferred.answer_reader import check_start, record_from
from proxy.journal.memory import MemoryJournal
from proxy.kernel.errors import Cancelled, Refused, Truncated
from proxy.kernel.journal import ATTACHED, BEAT, Claim, Entry, NewEntry, State, StoredCaller
from proxy.testing.clocks import ManualClock
from tests.support.runs import claimed

ID = "0" * 16


async def begun() -> tuple[MemoryJournal, Claim]:
    clock = ManualClock()
    journal = MemoryJournal(clock)
    new = NewEntry(id=ID, kind="live", caller=StoredCaller(), expires_at=clock.time() + 60)
    entry = await journal.add(new)
    return journal, Claim(entry, b"", entry.fence)


async def entry_of(journal: MemoryJournal) -> Entry:
    entry = await journal.get(ID)
    assert entry is not None
    return entry


async def read(journal: MemoryJournal, offset: int) -> bytes:
    return b"".join([data async for data in record_from(journal, await entry_of(journal), offset)])


@pytest.mark.parametrize("offset", [0, 2, 5])
async def test_what_is_there_comes_first_and_then_what_is_added(offset: int) -> None:
    journal, claim = await begun()
    await journal.append(claim, b"abc")
    reading = asyncio.create_task(read(journal, offset))
    for piece in (b"de", b"f", b"gh"):
        await asyncio.sleep(0)
        await journal.append(claim, piece)
    await journal.finish(claim, "completed")
    assert await reading == b"abcdefgh"[offset:]


async def test_two_answers_are_never_joined() -> None:
    """An operator has the request run again, while somebody still reads of its first answer."""
    journal = MemoryJournal(ManualClock())
    claim = await claimed(journal)
    await journal.append(claim, b"abc")
    entry = await journal.get(claim.entry.id)
    assert entry is not None
    parts = aiter(record_from(journal, entry, 0))
    assert await anext(parts) == b"abc"
    await journal.finish(claim, "failed")
    await journal.retry(entry.id)
    again = await journal.claim("one", attempts=3, lost_after=30.0)
    assert again is not None
    await journal.append(again, b"xyz")
    with pytest.raises(Truncated, match="begun anew"):
        await anext(parts)


async def test_a_reader_is_seen_before_there_is_a_byte_for_it() -> None:
    journal, claim = await begun()
    reading = asyncio.create_task(read(journal, 0))
    await asyncio.sleep(0)
    assert (await entry_of(journal)).meta[ATTACHED] is True
    await journal.finish(claim, "completed")
    assert await reading == b""


@pytest.mark.parametrize(("state", "error"), [("failed", Truncated), ("cancelled", Cancelled)])
async def test_a_record_that_breaks_off_never_ends_as_if_it_were_whole(state: State, error: type[Exception]) -> None:
    journal, claim = await begun()
    await journal.append(claim, b"abc")
    await journal.finish(claim, state, error="why: so")
    with pytest.raises(error, match="why: so"):
        await read(journal, 0)


async def test_a_record_that_is_deleted_breaks_off() -> None:
    journal, _ = await begun()
    reading = asyncio.create_task(read(journal, 0))
    await asyncio.sleep(0)
    await journal.delete(ID)
    with pytest.raises(Truncated):
        await reading


async def test_a_record_that_nobody_writes_any_more_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_reader, "LOOK", 0.001)
    monkeypatch.setattr(answer_reader, "LOST_AFTER", 0.005)
    journal, claim = await begun()
    await journal.append(claim, b"abc")
    with pytest.raises(Truncated, match="owner_lost"):
        await read(journal, 0)
    assert (await entry_of(journal)).state == "failed"


async def test_a_beat_keeps_a_silent_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_reader, "LOOK", 0.001)
    silence = answer_reader._Silence()
    journal, _ = await begun()
    monkeypatch.setattr(answer_reader, "LOST_AFTER", 0.0)
    assert silence.lasts(await entry_of(journal))
    monkeypatch.setattr(answer_reader, "LOST_AFTER", 10.0)
    await journal.set_meta(ID, {BEAT: 1})
    assert not silence.lasts(await entry_of(journal))


@pytest.mark.parametrize(
    ("state", "offset", "status"),
    [
        ("running", 99, None),
        ("completed", 0, None),
        ("completed", 2, None),
        ("completed", 3, 416),
        ("failed", 2, None),
        ("failed", 3, 410),
        ("cancelled", 99, 410),
    ],
)
async def test_where_a_reader_may_begin(state: State, offset: int, status: int | None) -> None:
    journal, claim = await begun()
    await journal.append(claim, b"abc")
    if state != "running":
        await journal.finish(claim, state)
    if status is None:
        check_start(await entry_of(journal), offset)
        return
    with pytest.raises(Refused) as refused:
        check_start(await entry_of(journal), offset)
    assert refused.value.status == status
