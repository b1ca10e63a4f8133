"""Writes the answer of a run into the journal, in batches: by time and by size, never a call for each chunk."""

import asyncio
from collections.abc import Sequence
from typing import Final

from proxy.kernel.chunk_writer import ChunkWriter
from proxy.kernel.errors import let_go
from proxy.kernel.journal import Claim, Fenced, Journal, JournalFull
from proxy.kernel.store import StoreUnavailable

EVERY: Final = 0.05
"""Seconds for which what comes is gathered before it is written."""
MOST: Final = 512 * 1024
"""Bytes that may wait to be written; then the backend has to wait."""
PATIENCE: Final = 60.0
"""Seconds for which a journal that does not answer is asked again."""
PAUSE: Final = 0.5
"""Seconds between two such calls."""


class RecordWriter(ChunkWriter):
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
        super().__init__(EVERY)
        self._journal = journal
        self._claim = claim
        self._start: tuple[int, Sequence[tuple[str, str]]] | None = None
        self._begun = False
        self._kept_back = False
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
        if self._kept_back:
            self.hold(data)
        else:
            self.put(data)
        return self.held < MOST

    async def room(self) -> None:
        """Wait until what was taken is written."""
        self._kept_back = False
        await self.write_all()

    async def end(self, *, keep: bool) -> None:
        """Write all that was taken, an answer that was kept back only where `keep`; then `error` says how it went."""
        if keep or not self._kept_back:
            await self.write_all()
        if keep and self.error is None:
            await self._write(b"")

    async def _write(self, data: bytes) -> None:
        """Write the beginning of the answer, where that was not done, and `data`."""
        try:
            await self._begin()
            if data:
                await self._append(data)
        except (Fenced, JournalFull, StoreUnavailable) as error:
            let_go(error)
            self.error = error
            self.clear()

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
