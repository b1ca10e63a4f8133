"""proxy/journal/ledger.py: what is known by heart stays what the shelf has."""

from collections.abc import Iterator

import pytest

from proxy.journal.entries import Entries
from proxy.journal.ledger import EXPIRED_FOR, Ledger
from proxy.journal.memory import MemoryShelf
from proxy.journal.runs import Runs
from proxy.journal.shelf import Row
from proxy.testing import ManualClock
from tests.support.journals import ANN, BOB, LASTS, START, entry, row


def known(ledger: Ledger) -> tuple[object, ...]:
    return (
        ledger.open,
        ledger.open_of(ANN.owner),
        ledger.open_of(BOB.owner),
        len(ledger.turns),
        sorted(ledger.beats),
        ledger.next_number() > 0,
    )


def test_a_ledger_that_is_read_anew_knows_the_same() -> None:
    shelf, clock = MemoryShelf(), ManualClock(START)
    ledger = Ledger(shelf, clock)
    first, second = ledger.save(row()), ledger.save(row(BOB))
    third = ledger.save(row(kind="file"))
    assert known(ledger)[:4] == (2, 1, 1, 2)
    ledger.save(first.but(state="running"))
    ledger.save(second.but(state="cancelled"))
    ledger.drop(third)
    assert known(ledger)[:5] == (1, 1, 0, 0, [first.entry.id])
    again = Ledger(shelf, clock)
    again.reload()
    assert known(again) == known(ledger)


class Unread(MemoryShelf):
    """A shelf whose rows are not all read."""

    def rows(self) -> Iterator[Row]:
        raise AssertionError("every row is read")


def test_what_a_shelf_has_taken_back_was_never_known() -> None:
    clock, shelf = ManualClock(START), Unread()
    ledger = Ledger(shelf, clock)
    entries, runs = Entries(ledger), Runs(ledger)
    names = [entries.add(entry(caller, expires_at=START + 10)).id for caller in (ANN, BOB, ANN)]
    names.append(entries.add(entry(BOB)).id)
    assert runs.claim(3, 30) is not None
    assert set(ledger.keep()) == set(names)
    stored = [found for name in names if (found := shelf.get(name)) is not None]
    before, order = known(ledger), [ledger.turns.position(name) for name in names]
    entries.add(entry(BOB))
    assert runs.claim(3, 30) is not None
    entries.delete(names[2])
    entries.cancel(names[3], "enough")
    clock.advance(10)
    ledger.sweep()
    assert known(ledger) != before
    ledger.take_back()
    for one in stored:
        shelf.put(one)
    assert known(ledger) == before
    assert [ledger.turns.position(name) for name in names] == order
    assert ledger.keep() == set()
    ledger.sweep()  # what the shelf has again expires again
    assert set(ledger.keep()) == set(names[:3])


def test_a_turn_that_is_taken_back_costs_nothing() -> None:
    ledger = Ledger(MemoryShelf(), ManualClock(START))
    for caller in (ANN, BOB):
        for _ in range(2):
            ledger.save(row(caller))
    ledger.keep()
    turns = []
    for _ in range(3):
        turns.append(ledger.next_turn())
        ledger.take_back()
    assert turns[0] is not None
    assert turns == [turns[0]] * 3


@pytest.mark.parametrize("how", ["cancelled", "deleted", "expired", "ended"])
def test_nothing_is_kept_of_a_claim_that_is_over(how: str) -> None:
    clock = ManualClock(START)
    ledger = Ledger(MemoryShelf(), clock)
    entries, runs = Entries(ledger), Runs(ledger)
    entries.add(entry())
    held = runs.claim(3, 30)
    assert held is not None
    assert list(ledger.charged) == [held.entry.id]
    if how == "cancelled":
        entries.cancel(held.entry.id, "enough")
    elif how == "deleted":
        entries.delete(held.entry.id)
    elif how == "expired":
        clock.advance(LASTS)
        ledger.sweep()
    else:
        runs.finish(held, "completed", None, None)
    assert not ledger.charged


def test_a_row_that_was_not_swept_yet_is_shown_as_it_is_by_now() -> None:
    clock = ManualClock(START)
    ledger = Ledger(MemoryShelf(), clock)
    waiting, document = ledger.save(row()), ledger.save(row(kind="file"))
    for _ in range(2):  # before and after the sweep
        clock.set(START + LASTS)
        found = ledger.get(waiting.entry.id)
        assert found is not None
        assert (found.entry.state, found.entry.ended_at) == ("expired", START + LASTS)
        assert ledger.get(document.entry.id) is None
        ledger.sweep()
    clock.set(START + LASTS + EXPIRED_FOR)
    assert ledger.get(waiting.entry.id) is None
    ledger.sweep()
    assert list(ledger.shelf.rows()) == []
    assert ledger.open == 0
