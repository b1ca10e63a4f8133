"""proxy/journal/local.py: what the suite of all journals (tests/support/journals.py) does not reach."""

from proxy.journal.memory import MemoryJournal
from proxy.testing import ManualClock
from tests.support.journals import START, claim, entry


async def test_who_waits_for_work_that_is_not_ready_waits_as_long() -> None:
    journal = MemoryJournal(ManualClock(START))
    await journal.add(entry())
    await journal.wait_for_work(600)  # something waits: it returns at once
    await journal.release(await claim(journal), again_after=0.01)
    await journal.wait_for_work(600)
