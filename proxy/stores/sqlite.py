"""Counters in this process that are kept in a SQLite file, and outlast it."""

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import floor
from pathlib import Path
from typing import Any, Final, Literal

import orjson
import structlog

from proxy.kernel.clock import Clock
from proxy.kernel.quotas import Reservation
from proxy.kernel.sqlite_file import open_file
from proxy.kernel.store import StoreUnavailable
from proxy.stores.limits_storage import MemoryWindows
from proxy.stores.memory import MemoryStore

log = structlog.get_logger("ollama_proxy.store")

Kind = Literal["requests", "tokens"]
Row = tuple[Kind, str, float, bytes | None]
"""The kind and the key of a counter, when it expires (seconds since 1970), and its state as JSON; None for none."""

EVERY: Final = 1.0
"""Seconds between two times of writing; what a killed process forgets."""
TIDY_EVERY: Final = 600
"""Times of writing between two removals of counters that have expired."""
MOST: Final = 300_000
"""Counters in the file; beyond it those that expire first are removed."""
SUFFIX: Final = ".counters"
"""What is put behind the name of the journal's file: the counters are in a file of their own beside it."""
SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS counters (kind TEXT NOT NULL, key TEXT NOT NULL, expires REAL NOT NULL,"
    " state BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID"
)


class SqliteStore(MemoryStore):
    """The store of one process, whose counters are written behind once a second and at the end.

    Decisions are those of `MemoryStore`, in memory alone. Counters of requests and tokens come back after a restart,
    and their windows go on by the calendar's time; running requests end with the process, and what they had reserved.

    Args:
        path: the journal's file.
        clock: tells the time.
        every: seconds between two times of writing.
    """

    def __init__(self, path: str, clock: Clock, every: float = EVERY) -> None:
        self._windows = NotedWindows(clock)
        super().__init__(clock, self._windows)
        self.url = f"sqlite:{path}"
        self._path = Path(path + SUFFIX)
        self._every = every
        self._spent: set[str] = set()
        self._failing = False
        self._saves = 0
        self._connection: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._task: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Open the file and read the counters; raises StoreUnavailable where another process has it, or it is none."""
        loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="counters")
        for kind, key, expires, state in await loop.run_in_executor(self._thread, self._open):
            self._restore(kind, key, expires, orjson.loads(state or b"null"))
        self._task = loop.create_task(self._write_behind())

    async def aclose(self) -> None:
        """Write what is left, and close the file."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            await self.save()
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
            self._thread.shutdown()
            self._thread = None

    def settle(self, reservation: Reservation, tokens: int) -> None:
        """See `Store.settle`."""
        super().settle(reservation, tokens)
        if tokens:
            today = self._clock.time()
            self._spent.update(
                [f"{quota.key}/{window.place(today)[0]}" for quota in reservation.quotas for window in quota.tokens]
            )

    async def save(self) -> None:
        """Write the counters that have changed. What cannot be written is tried again the next time."""
        noted, self._windows.noted = self._windows.noted, set()
        spent, self._spent = self._spent, set()
        rows = [self._row("requests", key) for key in noted] + [self._row("tokens", key) for key in spent]
        try:
            if rows:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._write, rows)
        except sqlite3.Error as error:
            self._windows.noted |= noted
            self._spent |= spent
            if not self._failing:
                log.error("counters_not_saved", store=self.url, detail=str(error))
            self._failing = True
        else:
            if self._failing:
                log.info("counters_saved", store=self.url)
            self._failing = False

    async def _write_behind(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await asyncio.shield(self.save())

    @property
    def _ahead(self) -> float:
        """Return how far the calendar's time is ahead of the monotonic one, by which windows are counted here."""
        return self._clock.time() - self._clock.monotonic()

    def _row(self, kind: Kind, key: str) -> Row:
        """Return a counter with times since 1970."""
        ahead = self._ahead
        if kind == "tokens":
            spent = self.spent(key)
            if spent is None:
                return kind, key, 0.0, None
            expires, size, slices = spent
            dated = [(number * size + ahead if size else 0.0, tokens) for number, tokens in slices]
            return kind, key, expires + ahead, orjson.dumps([size, dated])
        known = self._windows.state_of(key)
        if known is None:
            return kind, key, 0.0, None
        expires, state = known
        times = state if isinstance(state, int) else [moment + ahead for moment in state]
        return kind, key, expires + ahead, orjson.dumps(times)

    def _restore(self, kind: Kind, key: str, expires: float, state: Any) -> None:
        """Set a counter to what `_row` has made of it; where the calendar was set back, the latest time is now."""
        ahead, now = self._ahead, self._clock.monotonic()
        if kind == "tokens":
            size, dated = state
            newest = floor(now / size) if size else 0
            slices = [(min(floor((at - ahead) / size + 0.5), newest) if size else 0, tokens) for at, tokens in dated]
            self.restore_spent(key, expires - ahead, size, slices)
        elif isinstance(state, int):
            self._windows.restore(key, expires - ahead, state)
        else:
            self._windows.restore(key, expires - ahead, [min(at - ahead, now) for at in state])

    # In the thread that has the file

    def _open(self) -> list[Row]:
        connection = open_file(self._path)
        try:
            connection.execute(SCHEMA)
            self._connection = connection
            self._tidy()
            rows = connection.execute("SELECT kind, key, expires, state FROM counters ORDER BY expires").fetchall()
        except sqlite3.Error as error:
            connection.close()
            self._connection = None
            raise StoreUnavailable(f"cannot use {self._path}: {error}") from error
        return rows

    def _write(self, rows: list[Row]) -> None:
        connection = self._connection
        if connection is None:
            raise sqlite3.ProgrammingError("the file is not open")
        try:
            connection.execute("BEGIN")
            connection.executemany(
                "DELETE FROM counters WHERE kind = ? AND key = ?", [row[:2] for row in rows if row[3] is None]
            )
            connection.executemany(
                "INSERT OR REPLACE INTO counters VALUES (?, ?, ?, ?)", [row for row in rows if row[3] is not None]
            )
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._saves += 1
        if self._saves % TIDY_EVERY == 0:
            self._tidy()

    def _tidy(self) -> None:
        """Remove the counters that have expired, and those beyond `MOST`."""
        if self._connection is not None:
            self._connection.execute("DELETE FROM counters WHERE expires < ?", (self._clock.time(),))
            self._connection.execute(
                "DELETE FROM counters WHERE (kind, key) IN"
                " (SELECT kind, key FROM counters ORDER BY expires DESC LIMIT -1 OFFSET ?)",
                (MOST,),
            )

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class NotedWindows(MemoryWindows):
    """Windows that note which of their counters have changed.

    Attributes:
        noted: the keys of these counters; whoever writes them empties it.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.noted: set[str] = set()

    async def acquire_entry(self, key: str, limit: int, expiry: float, amount: int = 1) -> bool:
        """See `MemoryWindows.acquire_entry`."""
        self.noted.add(key)
        return await super().acquire_entry(key, limit, expiry, amount)

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """See `MemoryWindows.incr`."""
        self.noted.add(key)
        return await super().incr(key, expiry, amount)

    async def clear(self, key: str) -> None:
        """See `MemoryWindows.clear`."""
        self.noted.add(key)
        await super().clear(key)
