"""proxy/journal/memory.py: the suite of all journals, and the bound of its bytes."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings

from proxy.journal.memory import ENTRY, MemoryJournal
from proxy.kernel.journal import JournalFull, Query
from proxy.testing import ManualClock
from tests.support.journals import START, STEPS, JournalContract, Step, check_against_model, claim, entry


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
async def journal(clock: ManualClock) -> AsyncIterator[MemoryJournal]:
    opened = MemoryJournal(clock)
    await opened.connect()
    yield opened
    await opened.aclose()


@pytest.fixture
def other(journal: MemoryJournal) -> MemoryJournal:
    return journal


class TestMemoryJournal(JournalContract):
    """Runs the suite."""


@settings(deadline=None)
@given(STEPS)
async def test_any_sequence_of_steps_does_what_the_model_does(steps: list[Step]) -> None:
    clock = ManualClock(START)
    await check_against_model(MemoryJournal(clock), clock, steps)


async def test_its_bytes_are_bounded_and_given_back() -> None:
    journal = MemoryJournal(ManualClock(START), most_bytes=ENTRY + 100)
    first = await journal.add(entry(body=b"x" * 60))
    with pytest.raises(JournalFull) as caught:
        await journal.add(entry(body=b"x" * 60))
    assert caught.value.bound == "bytes"
    assert list(await journal.counts()) == ["queued"]
    held = await claim(journal)
    await journal.append(held, b"y" * 40)
    with pytest.raises(JournalFull):
        await journal.append(held, b"y")
    await journal.delete(first.id)
    await journal.add(entry(body=b"x" * 100))


async def test_entries_without_words_are_bounded_too() -> None:
    journal = MemoryJournal(ManualClock(START), most_bytes=10 * (ENTRY + 1000))
    for _ in range(10):
        await journal.add(entry(body=b"", headers=(("x", "y" * 999),)))
    with pytest.raises(JournalFull) as caught:
        await journal.add(entry(body=b""))
    assert caught.value.bound == "bytes"
    assert sum((await journal.counts()).values()) == 10
    await journal.cancel((await journal.entries(Query()))[0].id, "no")
    await journal.purge(["cancelled"])
    await journal.add(entry(body=b""))


async def test_it_says_that_it_does_not_last(journal: MemoryJournal) -> None:
    assert (journal.durable, journal.shared, journal.name) == (False, False, "memory")
