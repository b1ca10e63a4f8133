"""The keeper of the records of this process: it says that they are still written, and clears up behind them."""

import asyncio
from typing import Final, Protocol

from proxy.kernel.journal import Claim, Journal
from proxy.kernel.store import StoreUnavailable

BEAT: Final = 0.5
"""Seconds between two beats; by a beat, too, a record is found to be cancelled at another proxy."""


class Kept(Protocol):
    """A record that is being written."""

    claim: Claim | None

    def fenced(self) -> None:
        """End the record, as another proxy has ended it."""

    async def delete(self) -> None:
        """Delete its entry."""


class Keeper:
    """Keeps the records of one process alive, with one call of the journal for all of them.

    Args:
        journal: where they are.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._records: set[Kept] = set()
        self._task: asyncio.Task[None] | None = None
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
                await asyncio.sleep(BEAT)
                held = {record.claim.entry.id: record for record in self._records if record.claim is not None}
                claims = [record.claim for record in held.values() if record.claim is not None]
                try:
                    gone = await self._journal.beat(claims) if claims else ()
                except StoreUnavailable:
                    continue
                for record in map(held.__getitem__, gone):
                    if record.claim is not None:
                        record.fenced()
        finally:
            self._task = None
