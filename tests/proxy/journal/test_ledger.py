"""proxy/journal/ledger.py: what is known by heart stays what the shelf has."""

from proxy.journal.ledger import EXPIRED_FOR, Ledger
from proxy.journal.memory import MemoryShelf
from proxy.testing import ManualClock
from tests.support.journals import ANN, BOB, LASTS, START, row


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
