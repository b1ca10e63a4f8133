"""proxy/journal/runs.py: what the suite of all journals (tests/support/journals.py) does not reach."""

import pytest

from proxy.journal.entries import Entries
from proxy.journal.ledger import Ledger
from proxy.journal.memory import MemoryShelf
from proxy.journal.runs import Runs
from proxy.kernel.journal import Claim
from proxy.testing import ManualClock
from tests.support.journals import ANN, BOB, START, entry


def test_what_was_left_running_is_taken_up() -> None:
    ledger = Ledger(MemoryShelf(), ManualClock(START))
    entries, runs = Entries(ledger), Runs(ledger)
    for _ in range(2):
        entries.add(entry())
    live = entries.add(entry(kind="live"))
    unread, read = [claimed for _ in range(2) if (claimed := runs.claim(3, 30)) is not None]
    for held in (unread, read, Claim(live, b"", 1)):
        runs.append(held, b"words")
    assert runs.read(read.entry.id, 0, 1) == b"w"
    runs.take_up()
    found = [entries.get(held.entry.id) for held in (unread, read)] + [entries.get(live.id)]
    assert [one.state for one in found if one is not None] == ["queued", "failed", "failed"]
    assert [one.recorded for one in found if one is not None] == [0, 5, 5]


def test_a_release_that_does_not_count_costs_the_tenant_no_turn() -> None:
    ledger = Ledger(MemoryShelf(), ManualClock(START))
    entries, runs = Entries(ledger), Runs(ledger)
    for caller in (ANN, BOB):
        for _ in range(3):
            entries.add(entry(caller, cost=100))
    first = runs.claim(3, 30)
    assert first is not None
    runs.release(first, 0.0, counts=False)
    again = runs.claim(3, 30)
    assert again is not None
    assert again.entry.id == first.entry.id


def test_an_entry_does_not_end_as_queued() -> None:
    ledger = Ledger(MemoryShelf(), ManualClock(START))
    Entries(ledger).add(entry())
    held = Runs(ledger).claim(3, 30)
    assert held is not None
    with pytest.raises(ValueError, match="does not end as queued"):
        Runs(ledger).finish(held, "queued", None, None)
