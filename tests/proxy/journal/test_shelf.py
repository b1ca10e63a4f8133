"""proxy/journal/shelf.py."""

from proxy.journal.memory import MemoryShelf
from proxy.journal.shelf import Row
from tests.support.journals import row


def test_a_changed_row_is_another_one() -> None:
    first = row()
    changed = first.but(state="running", ready_at=3.0)
    assert (first.entry.state, first.ready_at) == ("queued", 0.0)
    assert (changed.entry.state, changed.ready_at, changed.number) == ("running", 3.0, first.number)
    assert first.but(fence=2).ready_at == 0.0


def test_a_shelf_gives_back_the_row_that_was_put_in() -> None:
    shelf, first = MemoryShelf(), row()
    shelf.put(first)
    assert isinstance(first, Row)
    assert list(shelf.rows()) == [first]
