"""The records that this process writes: they are said to be still written, and cleared up behind."""

import asyncio
from contextlib import suppress
from typing import Final, Protocol

from proxy.kernel.journal import BEAT, Claim, Journal
from proxy.kernel.store import StoreUnavailable

EVERY: Final = 0.5
"""Seconds between two beats; by a beat, too, a record is found to be cancelled at another proxy."""
SILENT: Final = 6
"""Beats after which a record that does not grow says to its readers that it is still written."""


class Kept(Protocol):
    """A record that is being written."""

    claim: Claim | None
    recorded: int

    def fenced(self) -> None:
        """End the record, as another proxy has ended it."""

    async def delete(self) -> None:
        """Delete its entry."""


class LiveRecords:
    """The records that one process writes: it keeps them alive, with one call of the journal for all of them.

    Args:
        journal: where they are.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._records: set[Kept] = set()
        self._task: asyncio.Task[None] | None = None
        self._beats = 0
        self._grown: dict[str, int] = {}
        """How far each record was a while ago."""
        self._deletions: set[asyncio.Task[None]] = set()

    def add(self, record: Kept) -> None:
        """Keep a record alive from now on."""
        self._records.add(record)
        if self._task is None:
            self._task = asyncio.create_task(self._beat())

    def discard(self, record: Kept) -> None:
        """Let a record be, as it has ended."""
        self._records.discard(record)

    def delete_after(self, record: Kept, seconds: float) -> None:
        """Delete a record that its client has no more need of, in some seconds."""
        asyncio.get_running_loop().call_later(seconds, self._delete, record)

    def _delete(self, record: Kept) -> None:
        task = asyncio.create_task(record.delete())
        self._deletions.add(task)
        task.add_done_callback(self._deletions.discard)

    async def _beat(self) -> None:
        """Beat for as long as there are records. A journal that fails is tried again: it counts in seconds, too."""
        try:
            while self._records:
                await asyncio.sleep(EVERY)
                with suppress(StoreUnavailable):
                    await self._beat_once()
        finally:
            self._task = None

    async def _beat_once(self) -> None:
        """Beat for all, end those that are fenced, and speak for those that have been silent for long."""
        self._beats += 1
        held = {record.claim.entry.id: (record, record.claim) for record in self._records if record.claim is not None}
        if not held:
            return
        for fenced in await self._journal.beat([claim for _, claim in held.values()]):
            record, claim = held.pop(fenced)
            if record.claim is claim:
                record.fenced()
        if self._beats % SILENT:
            return
        before, self._grown = self._grown, {key: record.recorded for key, (record, _) in held.items()}
        for key, recorded in self._grown.items():
            if before.get(key) == recorded:
                await self._journal.set_meta(key, {BEAT: self._beats})
