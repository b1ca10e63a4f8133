"""proxy/journal/sweeper.py."""

import asyncio

import pytest

from proxy.journal import sweeper
from proxy.journal.memory import MemoryJournal
from proxy.journal.sweeper import Sweeper
from proxy.kernel.journal import JournalFull, Query
from proxy.testing import ManualClock
from tests.support.journals import START, entry


async def test_words_that_have_expired_leave_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "EVERY", 0.001)
    clock = ManualClock(START)
    journal = MemoryJournal(clock)
    new = await journal.add(entry(kind="file"))
    waits = asyncio.create_task(journal.wait_for_change(new.id, 0, 30))
    await asyncio.sleep(0)
    clock.advance(10**6)
    await journal.connect()
    assert await waits is None
    assert await journal.entries(Query()) == []
    await journal.aclose()


async def test_a_home_that_is_full_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "EVERY", 0.001)
    tried, enough = 0, asyncio.Event()

    async def sweep() -> None:
        nonlocal tried
        tried += 1
        if tried == 3:
            enough.set()
        raise JournalFull("bytes", "no room")

    made = Sweeper(sweep)
    made.start()
    await enough.wait()
    await made.stop()
