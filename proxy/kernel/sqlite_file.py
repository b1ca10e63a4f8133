"""Open a SQLite file that one process has to itself and nobody else may read."""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from proxy.kernel.store import StoreUnavailable

PATIENCE: Final = 2.0
"""Seconds for which a file that another process has is tried again: a process that ends lets go of it late."""


class FileInUse(StoreUnavailable):
    """Another process has the file."""


def open_file(path: Path, *, most_bytes: int | None = None, patience: float = PATIENCE) -> sqlite3.Connection:
    """Open a file, or make it, with mode 0600, which its log has as well; transactions are begun by hand.

    A transaction that was committed is on disk: the log is synced (WAL, ``synchronous=FULL``). What is deleted is
    overwritten. The lock ends with the process, however it ends. To be used by the thread that calls this.

    Args:
        path: the file.
        most_bytes: the largest size of the file; beyond it SQLite says that the disk is full. None for no bound.
        patience: seconds to wait for another process that has the file.

    Raises FileInUse, or StoreUnavailable where the file cannot be opened or is no database of SQLite.
    """
    try:
        _make(path)
        connection = sqlite3.connect(path, timeout=patience, isolation_level=None, cached_statements=64)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"cannot open {path}: {error}") from error
    try:
        for pragma in (
            "locking_mode=EXCLUSIVE",
            "auto_vacuum=INCREMENTAL",
            "journal_mode=WAL",
            "synchronous=FULL",
            "secure_delete=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")
        if most_bytes is not None:
            size = connection.execute("PRAGMA page_size").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count={max(most_bytes // size, 1)}")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        connection.close()
        if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise FileInUse(f"another process has {path}; one proxy at a time can use it") from error
        raise StoreUnavailable(f"cannot use {path}: {error}") from error
    return connection


def _make(path: Path) -> None:
    """Make the file where it is missing, and give it mode 0600.

    A file that is there is not opened: to close any descriptor of it would end the locks of the connection that this
    process may have (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    with suppress(FileExistsError):
        os.close(os.open(path.resolve(), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
