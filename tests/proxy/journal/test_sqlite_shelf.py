"""proxy/journal/sqlite_shelf.py: it keeps what the shelf in memory keeps."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.journal.memory import MemoryShelf
from proxy.journal.shelf import Shelf
from proxy.journal.sqlite_shelf import SqliteShelf
from proxy.kernel.journal import Query
from proxy.kernel.sqlite_file import open_file
from tests.support.journals import ANN, BOB, row


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[SqliteShelf]:
    made = SqliteShelf(tmp_path / "state.db")
    connection = open_file(tmp_path / "state.db")
    made.open(connection)
    yield made
    connection.close()


def fill(shelf: Shelf) -> None:
    for number in range(12):
        one = row((ANN, BOB)[number % 2], number=number, kind=("request", "file", "batch")[number % 3])
        one = one.but(id=f"{number:032}", parent="p" if number % 4 == 0 else None, ready_at=number / 2)
        shelf.put(one)
        shelf.put_body(one.entry.id, bytes([number]))
        shelf.put(one.but(state=("queued", "running", "failed")[number % 3], answer_headers=(("a", "b"),), status=200))


def test_rows_come_back_as_they_were(shelf: SqliteShelf) -> None:
    memory = MemoryShelf()
    fill(memory)
    fill(shelf)
    assert list(shelf.rows()) == list(memory.rows())
    for query in (
        Query(),
        Query(limit=3),
        Query(owner=ANN.owner, kinds=("request", "batch"), limit=5),
        Query(states=("running", "queued"), after=f"{9:032}"),
        Query(parent="p"),
    ):
        assert shelf.find(query) == memory.find(query)
    for parent in (None, "p", "q"):
        assert shelf.count(parent) == memory.count(parent)
    shelf.remove(f"{3:032}")
    assert shelf.get(f"{3:032}") is None
    assert shelf.body(f"{4:032}") == b"\4"


def test_a_record_is_read_from_its_pieces(shelf: SqliteShelf) -> None:
    record = bytes(range(100))
    offset = 0
    for size in (1, 30, 2, 40, 27):
        shelf.append("a", offset, record[offset : offset + size])
        shelf.append("b", offset, b"x" * size)
        offset += size
    for begin in range(0, 101, 3):
        for limit in (1, 7, 50, 200):
            assert shelf.read("a", begin, limit) == record[begin : begin + limit]
    shelf.clear("a")
    assert shelf.read("a", 0, 9) == b""
    assert shelf.read("b", 0, 2) == b"xx"
