"""proxy/journal/entries.py: what the suite of all journals (tests/support/journals.py) does not reach."""

import pytest

from proxy.journal.entries import Entries
from proxy.journal.ledger import Ledger
from proxy.journal.memory import ENTRY, MemoryShelf
from proxy.kernel.journal import JournalFull
from proxy.testing import ManualClock
from tests.support.journals import START, entry


def test_an_entry_whose_body_has_no_room_leaves_nothing() -> None:
    ledger = Ledger(MemoryShelf(most_bytes=ENTRY + 10), ManualClock(START))
    entries = Entries(ledger)
    with pytest.raises(JournalFull):
        entries.add(entry(body=b"x" * 11, idempotency_key="k"))
    assert ledger.open == 0
    assert len(ledger.turns) == 0
    assert entries.add(entry(body=b"x" * 10, idempotency_key="k")).position == 0


def test_an_id_is_used_once() -> None:
    entries = Entries(Ledger(MemoryShelf(), ManualClock(START)))
    first = entry()
    entries.add(first)
    with pytest.raises(ValueError, match="has an entry with this id"):
        entries.add(first)
