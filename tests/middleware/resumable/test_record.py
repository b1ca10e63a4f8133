"""One record, over a journal in memory that can be made to fail."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from middleware.resumable.record import Record
from proxy.journal.memory import MemoryJournal
from proxy.kernel.chunk_writer import ENOUGH
from proxy.kernel.errors import Cancelled
from proxy.kernel.journal import ATTACHED, Entry, NewEntry, StoredCaller
from proxy.kernel.store import StoreUnavailable
from proxy.testing.clocks import ManualClock
from tests.support.backend import eventually

T = TypeVar("T")


class Failing(MemoryJournal):
    """A journal whose home does not answer while `fails`."""

    fails = False

    async def _put(self, rule: Callable[[], T], *, together: bool = False) -> T:
        if self.fails:
            raise StoreUnavailable("the home does not answer")
        return await super()._put(rule)


class Recorded:
    """A record with all that it told."""

    def __init__(self, keep: int = 1000) -> None:
        self.clock = ManualClock()
        self.journal = Failing(self.clock)
        self.told: list[Cancelled | None] = []
        now = self.clock.time()
        new = NewEntry(
            id="0" * 16, kind="live", caller=StoredCaller(), created_at=now, expires_at=now + 60, most_answer=keep
        )
        self.record = Record(self.journal, new, self.told.append)

    async def entry(self) -> Entry:
        found = await self.journal.get("0" * 16)
        assert found is not None
        return found

    async def bytes(self) -> bytes | None:
        return await self.journal.read("0" * 16, 0, 1_000_000)


async def begun(**options: Any) -> Recorded:
    recorded = Recorded(**options)
    assert await recorded.record.add(200, [("content-type", "text/plain")])
    return recorded


async def test_what_is_put_in_is_there_in_order_when_it_has_ended() -> None:
    recorded = await begun()
    for number in range(100):
        recorded.record.put(b"%d," % number)
        if number % 7 == 0:
            await asyncio.sleep(0)
    assert await recorded.record.end("completed", None, {"tokens_out": 3})
    entry = await recorded.entry()
    assert (entry.state, entry.status, entry.answer_headers) == ("completed", 200, (("content-type", "text/plain"),))
    assert entry.usage == {"tokens_out": 3}
    assert await recorded.bytes() == b"".join(b"%d," % number for number in range(100))
    assert recorded.told == []


async def test_much_is_written_at_once_and_little_when_its_client_has_left() -> None:
    recorded = await begun(keep=10 * ENOUGH)
    record = recorded.record
    record.put(b"x")
    record.put(b"x" * ENOUGH)
    await eventually(lambda: record.recorded == ENOUGH + 1)
    record.put(b"y")
    record.write_often()
    await eventually(lambda: record.recorded == ENOUGH + 2)
    record.close()


@pytest.mark.parametrize(("sizes", "kept"), [([600, 600], 1000), ([1000, 1], 1000), ([2000], 1000)])
async def test_no_more_than_the_bound_is_kept(sizes: list[int], kept: int) -> None:
    recorded = await begun()
    for size in sizes:
        recorded.record.put(b"x" * size)
        recorded.record.write_soon()
    await eventually(lambda: recorded.told == [None])
    entry = await recorded.entry()
    assert (entry.state, entry.recorded) == ("failed", kept)
    assert (entry.error or "").startswith("record_full: ")
    assert not recorded.record.open
    assert not await recorded.record.end("completed", None, {})


async def test_an_answer_of_just_that_length_is_kept() -> None:
    recorded = await begun()
    recorded.record.put(b"x" * 1000)
    assert await recorded.record.end("completed", None, {})
    assert (await recorded.entry()).recorded == 1000


async def test_where_the_journal_fails_at_first_nothing_is_recorded() -> None:
    recorded = Recorded()
    recorded.journal.fails = True
    assert not await recorded.record.add(200, [])
    assert not recorded.record.open
    assert not recorded.record.adding


async def test_where_it_fails_midway_the_record_ends_and_says_so() -> None:
    recorded = await begun()
    recorded.record.put(b"x")
    recorded.journal.fails = True
    recorded.record.write_soon()
    await eventually(lambda: recorded.told == [None])
    assert not recorded.record.open
    assert not await recorded.record.is_followed()
    await recorded.record.delete()


@pytest.mark.parametrize("end", ["cancel", "delete"])
async def test_whoever_cancels_the_record_ends_the_request_and_a_journal_that_forgot_it_does_not(end: str) -> None:
    recorded = await begun()
    if end == "cancel":
        await recorded.journal.cancel("0" * 16, "enough")
    else:
        await recorded.journal.delete("0" * 16)  # as a Redis that has failed over to what it had a moment before
    recorded.record.put(b"x")
    recorded.record.write_soon()
    await eventually(lambda: bool(recorded.told))
    assert isinstance(recorded.told[0], Cancelled) is (end == "cancel")
    assert not recorded.record.open


async def test_a_record_that_has_expired_ends_no_request() -> None:
    recorded = await begun()
    recorded.clock.advance(61)
    recorded.record.put(b"x")
    recorded.record.write_soon()
    await eventually(lambda: recorded.told == [None])


@pytest.mark.parametrize("by", ["nobody", "meta", "read"])
async def test_somebody_who_reads_on_is_seen(by: str) -> None:
    recorded = await begun()
    recorded.record.put(b"x")
    recorded.record.write_soon()
    await eventually(lambda: recorded.record.recorded == 1)
    if by == "meta":
        await recorded.journal.set_meta("0" * 16, {ATTACHED: True})
    elif by == "read":
        await recorded.bytes()
    assert await recorded.record.is_followed() is (by != "nobody")
    recorded.record.close()
