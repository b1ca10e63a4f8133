"""The record of one answer in the journal: what is sent is put into a list, and written now and then.

A chunk costs an append to the list. The list goes to the journal every `EVERY` seconds, more often once the client has
left and somebody may read the record, or as soon as it holds `ENOUGH` bytes. Where the journal fails, or the bound is
reached, the record ends, and the answer goes on without it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from proxy.kernel.chunk_writer import ChunkWriter
from proxy.kernel.errors import Cancelled
from proxy.kernel.journal import ATTACHED, Claim, Fenced, Journal, JournalFull, NewEntry, State
from proxy.kernel.log_throttle import Seldom
from proxy.kernel.store import StoreUnavailable

EVERY: Final = 2.0
"""Seconds between two writes of what was sent, while the client is there; a proxy that dies loses as much."""
OFTEN: Final = 0.05
"""Seconds between two writes for whoever reads the record instead of the client."""

log = structlog.get_logger("ollama_proxy.resumable")
_seldom = Seldom()


class Record(ChunkWriter):
    """One record. It must be closed, as its timer and its task lead to it.

    Args:
        journal: where the record is.
        new: the entry to put into the journal.
        lost: called when the record has ended before its answer: with an error that ends the request too, where its
            caller cancelled the record, else with None.

    Attributes:
        adding: whether the entry may be in the journal, and nobody knows; so it is where `add` is cancelled.
        open: whether what is sent is to be put into the record.
        claim: the right to write it; None before it is in the journal, and once it has ended.
        recorded: the bytes that are in it.
    """

    __slots__ = ("_asking", "_journal", "adding", "claim", "lost", "new", "open", "recorded")

    def __init__(self, journal: Journal, new: NewEntry, lost: Callable[[Cancelled | None], None] | None) -> None:
        super().__init__(EVERY)
        self._journal = journal
        self._asking: asyncio.Task[None] | None = None
        self.recorded = 0
        self.new = new
        self.lost = lost
        self.claim: Claim | None = None
        self.adding = self.open = False

    async def add(self, status: int, headers: Sequence[tuple[str, str]]) -> bool:
        """Put the entry into the journal; return whether that worked. `status` and `headers` begin the answer."""
        self.adding = True
        try:
            entry = await self._journal.add(self.new)
            claim = Claim(entry, b"", entry.fence)
            await self._journal.begin(claim, status, headers)  # now: its reader may be at another proxy in a moment
        except (StoreUnavailable, JournalFull, Fenced) as error:
            self.adding = False
            self._say_failed(error)
            return False
        self.adding = False
        self.claim = claim
        self.open = True
        return True

    def write_often(self) -> None:
        """Write at once, and often from now on: the client has left, and may come back as a reader."""
        self.every = OFTEN
        self.write_soon()

    async def _write(self, data: bytes) -> None:
        claim = self.claim
        if claim is None:
            return
        keep = self.new.most_answer
        try:
            if fits := data[: keep - self.recorded]:
                self.recorded = await self._journal.append(claim, fits, at=self.recorded)
            if len(data) > len(fits):
                raise JournalFull("bytes", f"no more than the first {keep} bytes of the answer are kept")
        except Fenced:
            self.fenced()
        except JournalFull as full:
            self.close()
            await self._finish(claim, "failed", f"record_full: {full}")
            self._tell(None)
        except StoreUnavailable as error:
            self.close()
            self._say_failed(error)
            self._tell(None)

    def fenced(self) -> None:
        """End the record, as the journal has cancelled, deleted, expired or forgotten it."""
        self.close()
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_why())

    async def _ask_why(self) -> None:
        """End the request too where its caller wants that; a journal that forgot the record says nothing of it."""
        try:
            entry = await self._journal.get(self.new.id)
        except StoreUnavailable as error:
            self._say_failed(error)
            entry = None
        self._tell(Cancelled("the caller ended the request") if entry and entry.state == "cancelled" else None)

    async def is_followed(self) -> bool:
        """Return whether somebody has come to read on."""
        try:
            entry = await self._journal.get(self.new.id)
        except StoreUnavailable as error:
            self._say_failed(error)
            return False
        return entry is not None and (entry.read or bool(entry.meta.get(ATTACHED)))

    async def end(self, state: State, error: str | None, usage: Mapping[str, int]) -> bool:
        """Write what is held and end the record; return whether it was there to be ended."""
        await self.write_all()
        claim = self.claim
        self.close()
        return claim is not None and await self._finish(claim, state, error, usage)

    def close(self) -> None:
        """Put nothing more into the record."""
        self.open = False
        self.claim = None
        self.clear()

    async def delete(self) -> None:
        """Delete the entry; where the journal fails, it expires."""
        try:
            await self._journal.delete(self.new.id)
        except StoreUnavailable as error:
            self._say_failed(error)

    async def _finish(
        self, claim: Claim, state: State, error: str | None, usage: Mapping[str, int] | None = None
    ) -> bool:
        """End the entry. Where that fails, its readers notice by themselves that nobody writes it any more."""
        try:
            at = self.recorded if state == "completed" else None
            await self._journal.finish(claim, state, error=error, usage=usage, at=at)
        except Fenced:
            return False
        except StoreUnavailable as failure:
            self._say_failed(failure)
            return False
        return True

    def _tell(self, error: Cancelled | None) -> None:
        if self.lost is not None:
            self.lost(error)

    def _say_failed(self, error: Exception) -> None:
        if (left_out := _seldom.left_out()) is not None:
            log.warning("recording_failed", request_id=self.new.id, error=str(error), left_out=left_out)
