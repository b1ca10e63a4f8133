"""The journal in a SQLite file: durable, with no other service."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from proxy.journal.local import LocalJournal
from proxy.journal.sqlite_shelf import RESERVE, SqliteShelf
from proxy.journal.sqlite_writer import Writer
from proxy.kernel.clock import Clock
from proxy.kernel.sqlite_file import open_file
from proxy.kernel.store import StoreUnavailable

T = TypeVar("T")

MOST_BYTES: Final = 64 * 2**30
"""The largest size of the file."""


class SqliteJournal(LocalJournal):
    """The journal of one process in one file. What a method has returned is on disk.

    Args:
        path: the file; it is made where it is missing, and its folder must be there.
        clock: tells the time.
        most_bytes: the largest size of the file.
        reserve: bytes of the disk that no words are put into.
    """

    durable = True

    def __init__(self, path: str, clock: Clock, most_bytes: int = MOST_BYTES, reserve: int = RESERVE) -> None:
        self._shelf = SqliteShelf(Path(path), reserve)
        super().__init__(self._shelf, clock)
        self.name = f"sqlite:{path}"
        self._path = Path(path)
        self._most_bytes = most_bytes
        self._writer = Writer(self._open, self._ledger.take_back, self._ledger.keep, self._bells.ring)

    async def connect(self) -> None:
        """See `Journal.connect`; raises StoreUnavailable where the file cannot be used or another process has it."""
        await self._writer.start()
        await super().connect()

    async def aclose(self) -> None:
        """See `Journal.aclose`."""
        await super().aclose()
        await self._writer.stop()

    async def _put(self, rule: Callable[[], T], *, together: bool = False) -> T:
        result: T = await self._writer.run(rule, together=together)
        return result

    def _open(self) -> sqlite3.Connection:
        """Open the file, and take up what was left running."""
        connection = open_file(self._path, most_bytes=self._most_bytes)
        try:
            connection.execute("BEGIN")
            self._shelf.open(connection)
            self._ledger.reload()
            self._runs.take_up()
            self._ledger.sweep()
            connection.execute("COMMIT")
        except (sqlite3.Error, ValueError) as error:
            connection.close()
            raise StoreUnavailable(f"cannot use {self._path}: {error}") from error
        return connection

    def __repr__(self) -> str:
        return f"<SqliteJournal {self._path}, {self._writer.commits} transactions>"
