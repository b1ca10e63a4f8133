"""Entries in a journal in memory, and what tests of their runs need."""

import asyncio
from collections.abc import Callable
from typing import Any

from proxy.journal.memory import MemoryJournal
from proxy.kernel.acceptance import ATTEMPTS
from proxy.kernel.journal import Claim, Entry, Journal, StoredCaller
from proxy.kernel.store import StoreUnavailable
from proxy.kernel.webhook_options import WebhookOptions
from proxy.kernel.webhooks import Webhooks
from proxy.testing import ManualClock
from tests.support import journals

ALICE = StoredCaller(identity="alice", tenant="physics", policy="research", method="key", client="10.0.0.1")


class Told(Webhooks):
    """Remembers the entries that are over."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def know(self, options: WebhookOptions) -> None:
        raise AssertionError("nobody has any here")

    def notify(self, entry: Entry) -> None:
        self.entries.append(entry)


class Failing(MemoryJournal):
    """A journal that does not answer some calls, although it may have done what it was asked to.

    Attributes:
        before: calls that fail before anything is done.
        after: calls that fail afterwards.
        calls: the names of the calls that write a record.
    """

    def __init__(self) -> None:
        super().__init__(ManualClock(journals.START))
        self.before: list[str] = []
        self.after: list[str] = []
        self.calls: list[str] = []

    async def _call(self, name: str, call: Callable[[], Any]) -> Any:
        self.calls.append(name)
        if name in self.before:
            self.before.remove(name)
            raise StoreUnavailable("away")
        result = await call()
        if name in self.after:
            self.after.remove(name)
            raise StoreUnavailable("away")
        return result

    async def begin(self, claim: Claim, *args: Any) -> None:
        await self._call("begin", lambda: super(Failing, self).begin(claim, *args))

    async def append(self, claim: Claim, data: bytes, **more: Any) -> int:
        length: int = await self._call("append", lambda: super(Failing, self).append(claim, data, **more))
        return length

    async def finish(self, claim: Claim, *args: Any, **more: Any) -> Entry:
        entry: Entry = await self._call("finish", lambda: super(Failing, self).finish(claim, *args, **more))
        return entry


async def claimed(journal: Journal, **fields: Any) -> Claim:
    """Put an entry into the journal, and claim it."""
    fields.setdefault("meta", {ATTEMPTS: 2})
    fields.setdefault("body", b'{"model": "llama3.2"}')
    await journal.add(journals.entry(fields.pop("caller", ALICE), **fields))
    return await journals.claim(journal)


async def record(journal: Journal, name: str) -> bytes:
    """Return the whole record of an entry."""
    data = await journal.read(name, 0, 2**30)
    assert data is not None
    return data


async def turns(count: int = 20) -> None:
    """Let the loop run a little."""
    for _ in range(count):
        await asyncio.sleep(0)
