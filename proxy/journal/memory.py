"""The journal in memory: gone with the process."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from proxy.journal.local import LocalJournal
from proxy.journal.shelf import Row, Shelf
from proxy.kernel.clock import Clock
from proxy.kernel.journal import JournalFull, Query

T = TypeVar("T")

MOST_BYTES: Final = 256 * 2**20
"""Bytes of entries, bodies and records together."""
ENTRY: Final = 2048
"""Bytes that an entry takes beside its header fields, its body and its record: about as many as were measured."""


class MemoryJournal(LocalJournal):
    """The journal of one process. Nothing waits, so nothing happens between what a rule finds and what it does."""

    durable = False
    name = "memory"

    def __init__(self, clock: Clock, most_bytes: int = MOST_BYTES) -> None:
        super().__init__(MemoryShelf(most_bytes), clock)

    async def _put(self, rule: Callable[[], T], *, together: bool = False) -> T:
        try:
            return rule()
        finally:
            self._bells.ring(self._ledger.keep())


class MemoryShelf(Shelf):
    """Rows, bodies and records in dictionaries.

    Args:
        most_bytes: bytes of entries, bodies and records together.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._rows: dict[str, Row] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._bodies: dict[str, bytes] = {}
        self._records: dict[str, bytearray] = {}
        self._left = most_bytes

    def rows(self) -> Iterator[Row]:
        """See `Shelf.rows`."""
        yield from list(self._rows.values())

    def get(self, id: str) -> Row | None:
        """See `Shelf.get`."""
        return self._rows.get(id)

    def put(self, row: Row) -> None:
        """See `Shelf.put`."""
        self._rows[row.entry.id] = row
        if row.key is not None:
            self._keys[row.entry.caller.owner, row.key] = row.entry.id

    def remove(self, id: str) -> None:
        """See `Shelf.remove`."""
        row = self._rows.pop(id)
        if row.key is not None:
            del self._keys[row.entry.caller.owner, row.key]
        if id in self._bodies:
            self._left += _size(row, self._bodies.pop(id))
        self.clear(id)

    def by_key(self, owner: str, key: str) -> Row | None:
        """See `Shelf.by_key`."""
        name = self._keys.get((owner, key))
        return self._rows[name] if name is not None else None

    def find(self, query: Query) -> Sequence[Row]:
        """See `Shelf.find`."""
        before = self._rows[query.after].number if query.after in self._rows else None
        found: list[Row] = []
        for row in reversed(self._rows.values()):
            if len(found) == query.limit:
                break
            if (before is None or row.number < before) and _is_asked_for(row, query):
                found.append(row)
        return found

    def count(self, parent: str | None) -> dict[str, int]:
        """See `Shelf.count`."""
        asked = Query(parent=parent) if parent is not None else Query(kinds=("request",))
        return dict(Counter(row.entry.state for row in self._rows.values() if _is_asked_for(row, asked)))

    def put_body(self, id: str, data: bytes) -> None:
        """See `Shelf.put_body`."""
        self._take(_size(self._rows[id], data))
        self._bodies[id] = data

    def body(self, id: str) -> bytes:
        """See `Shelf.body`."""
        return self._bodies[id]

    def append(self, id: str, offset: int, data: bytes) -> None:
        """See `Shelf.append`."""
        self._take(len(data))
        self._records.setdefault(id, bytearray()).extend(data)

    def read(self, id: str, offset: int, limit: int) -> bytes:
        """See `Shelf.read`."""
        return bytes(memoryview(self._records.get(id, b""))[offset : offset + limit])

    def clear(self, id: str) -> None:
        """See `Shelf.clear`."""
        self._left += len(self._records.pop(id, b""))

    def _take(self, size: int) -> None:
        if size > self._left:
            raise JournalFull("bytes", "the journal in memory is full; it has more room in a file: store: sqlite:PATH")
        self._left -= size


def _size(row: Row, body: bytes) -> int:
    """Return the bytes that an entry takes with its body; those of its record come on top."""
    entry = row.entry
    return ENTRY + len(entry.query) + sum(len(name) + len(value) for name, value in entry.headers) + len(body)


def _is_asked_for(row: Row, query: Query) -> bool:
    entry = row.entry
    return (
        (query.owner is None or entry.caller.owner == query.owner)
        and (not query.kinds or entry.kind in query.kinds)
        and (not query.states or entry.state in query.states)
        and (query.parent is None or entry.parent == query.parent)
    )
