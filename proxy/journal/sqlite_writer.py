"""The thread that has the SQLite file of a journal: it runs rules in transactions that many callers share."""

import asyncio
import sqlite3
from collections.abc import Callable, Collection
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final

from proxy.kernel.journal import Fenced, JournalFull
from proxy.kernel.store import StoreUnavailable

MOST_TOGETHER: Final = 512
"""Rules that share a transaction."""
GATHER: Final = 0.05
"""Seconds for which rules that may wait are gathered, so that they share a transaction."""
IDLE: Final = 1.0
"""Seconds without a rule after which the log is copied into the file, and the file shrinks."""

Work = tuple[Callable[[], Any], "asyncio.Future[Any]"]
Done = tuple["asyncio.Future[Any]", Any, BaseException | None]


class Writer:
    """Runs rules one after the other, in the order in which they came, and settles each when it is on disk.

    Those that come while a transaction is written share the next one: the disk is asked once for all of them. A rule
    raises JournalFull, Fenced or ValueError before it has changed anything; any other error takes back the whole
    transaction, whose rules then run in one of their own each.

    Args:
        open: opens the file, and makes ready what the rules use; runs in the thread.
        take_back: called when a transaction was taken back, to undo what its rules have changed elsewhere.
        keep: called when a transaction is on disk; returns what its rules have changed.
        wake: called in the event loop with what has changed, once it is on disk.

    Attributes:
        commits: transactions that were committed.
    """

    def __init__(
        self,
        open: Callable[[], sqlite3.Connection],
        take_back: Callable[[], None],
        keep: Callable[[], Collection[str]],
        wake: Callable[[Collection[str]], None],
    ) -> None:
        self.commits = 0
        self._open = open
        self._take_back = take_back
        self._keep = keep
        self._wake = wake
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._connection: sqlite3.Connection
        self._gathered: list[Work] = []
        self._written = False
        self._ending = False

    async def start(self) -> None:
        """Open the file; raises what `open` raises."""
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ending = False
        self._thread = Thread(target=self._serve, args=(opened,), name="journal", daemon=True)
        self._thread.start()
        try:
            await opened
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Run what is waiting, and close the file."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._pass_on()
            self._queue.put(None)
            await asyncio.to_thread(thread.join)

    async def run(self, rule: Callable[[], Any], *, together: bool = False) -> Any:
        """Run a rule in the thread; return when what it has changed is on disk.

        With `together` it may wait for `GATHER` seconds, for others to share its transaction.
        """
        if self._thread is None:
            raise StoreUnavailable("the journal is not open")
        loop = asyncio.get_running_loop()
        settled: asyncio.Future[Any] = loop.create_future()
        if together:
            if not self._gathered:
                loop.call_later(GATHER, self._pass_on)
            self._gathered.append((rule, settled))
        else:
            self._queue.put((rule, settled))
        return await settled

    def _pass_on(self) -> None:
        """Give the thread what was gathered."""
        for work in self._gathered:
            self._queue.put(work)
        self._gathered.clear()

    def _serve(self, opened: "asyncio.Future[None]") -> None:
        try:
            self._connection = self._open()
        except BaseException as error:
            self._deliver([(opened, None, error)], ())
            return
        self._deliver([(opened, None, None)], ())
        try:
            while batch := self._next():
                self._run_together(batch)
        finally:
            with suppress(sqlite3.Error):
                self._connection.close()

    def _next(self) -> list[Work]:
        """Wait for rules, and return all that wait; empty once the thread is to end."""
        while not self._ending:
            batch: list[Work] = []
            with suppress(Empty):
                work = self._queue.get(timeout=IDLE if self._written else None)
                while work is not None:
                    batch.append(work)
                    if len(batch) == MOST_TOGETHER:
                        return batch
                    work = self._queue.get_nowait()
                self._ending = True
            if batch:
                return batch
            if not self._ending:
                self._tidy()
        return []

    def _run_together(self, batch: list[Work]) -> None:
        try:
            done = self._transaction(batch)
        except Exception as error:
            self._roll_back()
            if len(batch) > 1:
                for work in batch:
                    self._run_together([work])
                return
            self._deliver([(batch[0][1], None, _translated(error))], ())
        else:
            self._deliver(done, self._keep())

    def _transaction(self, batch: list[Work]) -> list[Done]:
        before = self._connection.total_changes
        self._connection.execute("BEGIN")
        done: list[Done] = []
        for rule, settled in batch:
            try:
                done.append((settled, rule(), None))
            except (JournalFull, Fenced, ValueError) as error:
                done.append((settled, None, error))
        self._connection.execute("COMMIT")
        if self._connection.total_changes != before:
            self.commits += 1
            self._written = True
        return done

    def _roll_back(self) -> None:
        """Take back a transaction; SQLite may have done so itself."""
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._take_back()

    def _tidy(self) -> None:
        """Empty the log, so that nothing that was deleted is left in it, and give back free pages."""
        self._written = False
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA incremental_vacuum").fetchall()
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _deliver(self, done: list[Done], changed: Collection[str]) -> None:
        loop = done[0][0].get_loop()
        with suppress(RuntimeError):  # the event loop is closed: nobody waits
            loop.call_soon_threadsafe(self._settle, done, changed)

    def _settle(self, done: list[Done], changed: Collection[str]) -> None:
        for settled, result, error in done:
            if settled.done():
                continue
            if error is not None:
                settled.set_exception(error)
            else:
                settled.set_result(result)
        self._wake(changed)


def _translated(error: Exception) -> Exception:
    """Return the contract's error for one of SQLite's."""
    if not isinstance(error, sqlite3.Error):
        return error
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return JournalFull("bytes", "the disk of the journal, or the file, is full")
    return StoreUnavailable(f"the journal's file cannot be used: {error}")
