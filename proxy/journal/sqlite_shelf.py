"""Rows, bodies and records in the tables of a SQLite file."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.journal.shelf import Row, Shelf
from proxy.kernel.journal import Entry, JournalFull, Query, StoredCaller

SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS entries (
        id TEXT PRIMARY KEY, number INTEGER NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL, owner TEXT NOT NULL,
        parent TEXT, key TEXT, recorded INTEGER NOT NULL, read INTEGER NOT NULL, document BLOB NOT NULL)""",
    "CREATE UNIQUE INDEX IF NOT EXISTS entries_by_number ON entries (number)",
    "CREATE INDEX IF NOT EXISTS entries_by_owner ON entries (owner, number)",
    "CREATE INDEX IF NOT EXISTS entries_by_state ON entries (kind, state)",
    "CREATE INDEX IF NOT EXISTS entries_by_parent ON entries (parent, state) WHERE parent IS NOT NULL",
    "CREATE UNIQUE INDEX IF NOT EXISTS entries_by_key ON entries (owner, key) WHERE key IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS bodies (id TEXT PRIMARY KEY, data BLOB NOT NULL)",
    """CREATE TABLE IF NOT EXISTS records (
        id TEXT NOT NULL, offset INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (id, offset))""",
)
SELECT: Final = "SELECT number, key, recorded, read, document FROM entries"
VERSION: Final = 1
"""The version of the tables, in ``PRAGMA user_version``."""


RESERVE: Final = 16 * 2**20
"""Bytes of the disk that no words are put into: to end and to delete entries takes room as well."""


class SqliteShelf(Shelf):
    """The shelf of one connection. Whoever calls it has begun a transaction, and commits it.

    Args:
        path: the file.
        reserve: bytes of its disk that stay free, beside those that the log will take again when it is copied into the
            file.

    Attributes:
        connection: the open file; set by the thread that opens it.
    """

    connection: sqlite3.Connection

    def __init__(self, path: Path, reserve: int = RESERVE) -> None:
        self._folder = path.parent
        self._log = path.with_name(f"{path.name}-wal")
        self._reserve = reserve

    def open(self, connection: sqlite3.Connection) -> None:
        """Use a file, and make its tables where they are missing; raises ValueError for tables of a later version."""
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise ValueError(f"its tables have version {version}; this release knows {VERSION}")
        for statement in SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={VERSION}")
        self.connection = connection

    def rows(self) -> Iterator[Row]:
        """See `Shelf.rows`."""
        for found in self.connection.execute(f"{SELECT} ORDER BY number"):
            yield _row(found)

    def get(self, id: str) -> Row | None:
        """See `Shelf.get`."""
        found = self.connection.execute(f"{SELECT} WHERE id = ?", (id,)).fetchone()
        return _row(found) if found is not None else None

    def put(self, row: Row) -> None:
        """See `Shelf.put`."""
        entry = row.entry
        self.connection.execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " state = excluded.state, recorded = excluded.recorded, read = excluded.read, document = excluded.document",
            (
                entry.id,
                row.number,
                entry.kind,
                entry.state,
                entry.caller.owner,
                entry.parent,
                row.key,
                entry.recorded,
                entry.read,
                _document(row),
            ),
        )

    def remove(self, id: str) -> None:
        """See `Shelf.remove`."""
        self.connection.execute("DELETE FROM entries WHERE id = ?", (id,))
        self.connection.execute("DELETE FROM bodies WHERE id = ?", (id,))
        self.clear(id)

    def by_key(self, owner: str, key: str) -> Row | None:
        """See `Shelf.by_key`."""
        found = self.connection.execute(f"{SELECT} WHERE owner = ? AND key = ?", (owner, key)).fetchone()
        return _row(found) if found is not None else None

    def find(self, query: Query) -> Sequence[Row]:
        """See `Shelf.find`."""
        where: list[str] = []
        values: list[object] = []
        for column, value in (("owner", query.owner), ("parent", query.parent)):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        for column, names in (("kind", query.kinds), ("state", query.states)):
            if names:
                where.append(f"{column} IN ({', '.join('?' * len(names))})")
                values.extend(names)
        if query.after is not None and (last := self.get(query.after)) is not None:
            where.append("number < ?")
            values.append(last.number)
        asked = f" WHERE {' AND '.join(where)}" if where else ""
        found = self.connection.execute(f"{SELECT}{asked} ORDER BY number DESC LIMIT ?", (*values, query.limit))
        return [_row(one) for one in found]

    def count(self, parent: str | None) -> dict[str, int]:
        """See `Shelf.count`."""
        by_state = (
            self.connection.execute("SELECT state, count(*) FROM entries WHERE kind = 'request' GROUP BY state")
            if parent is None
            else self.connection.execute(
                "SELECT state, count(*) FROM entries WHERE parent = ? GROUP BY state", (parent,)
            )
        )
        return dict(by_state.fetchall())

    def put_body(self, id: str, data: bytes) -> None:
        """See `Shelf.put_body`."""
        self._check_room(len(data))
        self.connection.execute("INSERT INTO bodies VALUES (?, ?)", (id, data))

    def body(self, id: str) -> bytes:
        """See `Shelf.body`."""
        found: bytes = self.connection.execute("SELECT data FROM bodies WHERE id = ?", (id,)).fetchone()[0]
        return found

    def append(self, id: str, offset: int, data: bytes) -> None:
        """See `Shelf.append`."""
        self._check_room(len(data))
        self.connection.execute("INSERT INTO records VALUES (?, ?, ?)", (id, offset, data))

    def read(self, id: str, offset: int, limit: int) -> bytes:
        """See `Shelf.read`."""
        pieces: list[bytes] = []
        begin, left = offset, limit
        for at, data in self.connection.execute(
            "SELECT offset, data FROM records WHERE id = ?1 AND offset < ?3 AND offset >= coalesce("
            "(SELECT max(offset) FROM records WHERE id = ?1 AND offset <= ?2), 0) ORDER BY offset",
            (id, offset, offset + limit),
        ):
            piece = data[begin - at : begin - at + left]
            pieces.append(piece)
            begin += len(piece)
            left -= len(piece)
        return b"".join(pieces)

    def clear(self, id: str) -> None:
        """See `Shelf.clear`."""
        self.connection.execute("DELETE FROM records WHERE id = ?", (id,))

    def _check_room(self, size: int) -> None:
        """Raise JournalFull where the disk has no room for `size` bytes in the log, and then in the file."""
        disk = os.statvfs(self._folder)
        log = self._log.stat().st_size if self._log.exists() else 0
        if disk.f_bavail * disk.f_frsize < self._reserve + log + 2 * size:
            raise JournalFull("bytes", f"the disk of the journal has less than {self._reserve >> 20} MiB left")


def _document(row: Row) -> bytes:
    """Return what the columns do not say of a row, as JSON."""
    return orjson.dumps([row.weight, row.most_answer, row.ready_at, row.entry], option=orjson.OPT_NON_STR_KEYS)


def _row(found: tuple[int, str | None, int, int, bytes]) -> Row:
    number, key, recorded, read, document = found
    weight, most_answer, ready_at, fields = orjson.loads(document)
    return Row(_entry({**fields, "recorded": recorded, "read": bool(read)}), number, weight, most_answer, key, ready_at)


def _entry(fields: dict[str, Any]) -> Entry:
    """Return an entry from what `orjson` makes of one: pairs of header fields come back as lists."""
    fields["caller"] = StoredCaller(**fields["caller"])
    for name in ("headers", "answer_headers"):
        fields[name] = tuple([(key, value) for key, value in fields[name]])
    return Entry(**fields)
