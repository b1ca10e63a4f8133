"""proxy/journal/local.py: what the suite of all journals (tests/support/journals.py) does not reach."""

import asyncio

import pytest

from proxy.journal import local
from proxy.journal.memory import MemoryJournal
from proxy.kernel.journal import Query
from proxy.testing import ManualClock
from tests.support.journals import START, claim, entry


async def test_words_that_have_expired_leave_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "SWEEP_EVERY", 0.001)
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


async def test_who_waits_for_work_that_is_not_ready_waits_as_long() -> None:
    journal = MemoryJournal(ManualClock(START))
    await journal.add(entry())
    await journal.wait_for_work(600)  # something waits: it returns at once
    await journal.release(await claim(journal), again_after=0.01)
    await journal.wait_for_work(600)
