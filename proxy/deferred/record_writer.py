"""Writes the answer of a run into the journal, in batches: by time and by size, never a call for each chunk."""

import asyncio
from collections.abc import Sequence
from typing import Final

from proxy.kernel.errors import let_go
from proxy.kernel.journal import Claim, Fenced, Journal, JournalFull
from proxy.kernel.store import StoreUnavailable

EVERY: Final = 0.05
"""Seconds for which what comes is gathered before it is written."""
ENOUGH: Final = 64 * 1024
"""Bytes that are written at once."""
MOST: Final = 512 * 1024
"""Bytes that may wait to be written; then the backend has to wait."""
PATIENCE: Final = 60.0
"""Seconds for which a journal that does not answer is asked again."""
PAUSE: Final = 0.5
"""Seconds between two such calls."""


class RecordWriter:
    """Writes the record of one claim.

    The answer's beginning goes into the journal with its first bytes. An answer with a status of 400 or more is kept
    back until `end`, as the request may run again instead.

    Args:
        journal: where the record is.
        claim: the right to write it.

    Attributes:
        recorded: the bytes that are in the journal.
        error: why nothing more is written: `Fenced`, `JournalFull` or `StoreUnavailable`; None where all is well.
    """

    def __init__(self, journal: Journal, claim: Claim) -> None:
        self._journal = journal
        self._claim = claim
        self._start: tuple[int, Sequence[tuple[str, str]]] | None = None
        self._begun = False
        self._kept_back = False
        self._parts: list[bytes] = []
        self._waiting = 0
        self._enough = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self.recorded = 0
        self.error: Exception | None = None

    def begin(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """Note how the answer begins."""
        self._start = status, headers
        self._kept_back = status >= 400

    def take(self, data: bytes) -> bool:
        """Take a part of the answer, without awaiting anything; return whether more may follow at once."""
        if self.error is not None:
            return True  # the run is about to be ended
        self._parts.append(data)
        self._waiting += len(data)
        if self._waiting >= ENOUGH:
            self._enough.set()
        if self._writing is None and not self._kept_back:
            self._writing = asyncio.create_task(self._write())
        return self._waiting < MOST

    async def room(self) -> None:
        """Wait until most of what was taken is written."""
        self._kept_back = False
        if self._writing is None and self.error is None:
            self._writing = asyncio.create_task(self._write())
        if self._writing is not None:
            await asyncio.shield(self._writing)

    async def end(self, *, keep: bool) -> None:
        """Write all that was taken, an answer that was kept back only where `keep`; then `error` says how it went."""
        if self._writing is not None:
            self._enough.set()
            await self._writing
        if keep and self.error is None:
            self._enough.set()
            await self._write(even_empty=True)

    async def _write(self, *, even_empty: bool = False) -> None:
        """Write until nothing waits, and note an error."""
        try:
            while self._parts:
                if not self._enough.is_set():
                    await self._gather()
                data, self._parts, self._waiting = b"".join(self._parts), [], 0
                self._enough.clear()
                await self._begin()
                await self._append(data)
            if even_empty:
                await self._begin()
        except (Fenced, JournalFull, StoreUnavailable) as error:
            let_go(error)
            self.error = error
            self._parts, self._waiting = [], 0
        finally:
            self._writing = None

    async def _gather(self) -> None:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(EVERY, self._enough.set)
        try:
            await self._enough.wait()
        finally:
            timer.cancel()

    async def _begin(self) -> None:
        """Write how the answer begins, once; to write the same again does no harm."""
        if self._begun or self._start is None:
            return
        until = asyncio.get_running_loop().time() + PATIENCE
        while True:
            try:
                await self._journal.begin(self._claim, *self._start)
                self._begun = True
                return
            except StoreUnavailable:
                if asyncio.get_running_loop().time() > until:
                    raise
            await asyncio.sleep(PAUSE)

    async def _append(self, data: bytes) -> None:
        """Append `data` once: a call that fails is made again for the same place in the record."""
        until = asyncio.get_running_loop().time() + PATIENCE
        while True:
            try:
                self.recorded = await self._journal.append(self._claim, data, at=self.recorded)
                return
            except StoreUnavailable:
                if asyncio.get_running_loop().time() > until:
                    raise
            await asyncio.sleep(PAUSE)
