"""A journal that one process has to itself: the rules, and those who wait for a change."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from proxy.journal.claiming import claim_or_give_back
from proxy.journal.entries import Entries
from proxy.journal.ledger import Ledger
from proxy.journal.runs import Runs
from proxy.journal.shelf import Shelf
from proxy.journal.sweeper import Sweeper
from proxy.journal.waiting import Bells
from proxy.kernel.clock import Clock
from proxy.kernel.journal import Claim, Entry, Journal, JournalFull, NewEntry, Query, State
from proxy.kernel.store import StoreUnavailable

T = TypeVar("T")


class LocalJournal(Journal):
    """The rules over a shelf. Each rule runs as a whole, one after the other; a home says where (`_put`)."""

    shared = False

    def __init__(self, shelf: Shelf, clock: Clock) -> None:
        self._clock = clock
        self._ledger = Ledger(shelf, clock)
        self._entries = Entries(self._ledger)
        self._runs = Runs(self._ledger)
        self._bells = Bells()
        self._sweeper = Sweeper(lambda: self._run(self._ledger.sweep))

    @abstractmethod
    async def _put(self, rule: Callable[[], T], *, together: bool = False) -> T:
        """Run a rule, and return what it returns when it holds; then ring the bells of what it has changed.

        With `together` it may wait a moment for others that are written with it. Raises JournalFull where it finds no
        room.
        """

    async def _run(self, rule: Callable[[], T]) -> T:
        """Run a rule that puts no words in. Where even that finds no room the home fails: StoreUnavailable."""
        try:
            return await self._put(rule)
        except JournalFull as full:
            raise StoreUnavailable(f"the journal is full: {full}") from full

    async def connect(self) -> None:
        """See `Journal.connect`."""
        self._sweeper.start()

    async def aclose(self) -> None:
        """See `Journal.aclose`."""
        await self._sweeper.stop()

    async def add(self, new: NewEntry) -> Entry:
        """See `Journal.add`."""
        return await self._put(lambda: self._entries.add(new))

    async def get(self, id: str) -> Entry | None:
        """See `Journal.get`."""
        return await self._run(lambda: self._entries.get(id))

    async def body(self, id: str) -> bytes | None:
        """See `Journal.body`."""
        return await self._run(lambda: self._entries.body(id))

    async def entries(self, query: Query) -> Sequence[Entry]:
        """See `Journal.entries`."""
        await self._sweeper.once()
        return await self._run(lambda: self._entries.find(query))

    async def counts(self) -> Mapping[State, int]:
        """See `Journal.counts`."""
        await self._sweeper.once()
        return await self._run(lambda: self._entries.count(None))

    async def children(self, parent: str) -> Mapping[State, int]:
        """See `Journal.children`."""
        await self._sweeper.once()
        return await self._run(lambda: self._entries.count(parent))

    async def set_meta(self, id: str, changes: Mapping[str, Any], *, state: State | None = None) -> Entry | None:
        """See `Journal.set_meta`."""
        return await self._run(lambda: self._entries.set_meta(id, changes, state))

    async def cancel(self, id: str, reason: str) -> Entry | None:
        """See `Journal.cancel`."""
        return await self._run(lambda: self._entries.cancel(id, reason))

    async def retry(self, id: str) -> Entry | None:
        """See `Journal.retry`."""
        return await self._run(lambda: self._entries.retry(id))

    async def delete(self, id: str) -> bool:
        """See `Journal.delete`."""
        return await self._run(lambda: self._entries.delete(id))

    async def purge(self, states: Sequence[State]) -> int:
        """See `Journal.purge`."""
        return await self._run(lambda: self._entries.purge(states))

    async def claim(self, owner: str, *, attempts: int, lost_after: float) -> Claim | None:
        """See `Journal.claim`. There is one process, so nobody asks who the owner is."""
        claiming = self._run(lambda: self._runs.claim(attempts, lost_after))
        return await claim_or_give_back(claiming, partial(self.release, counts=False))

    async def beat(self, claims: Sequence[Claim]) -> Sequence[str]:
        """See `Journal.beat`."""
        return await self._run(lambda: self._runs.beat(claims))

    async def begin(self, claim: Claim, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """See `Journal.begin`."""
        await self._run(lambda: self._runs.begin(claim, status, headers))

    async def append(self, claim: Claim, data: bytes, *, at: int | None = None) -> int:
        """See `Journal.append`."""
        live = claim.entry.kind == "live"  # its client has the bytes already
        return await self._put(lambda: self._runs.append(claim, data, at), together=live)

    async def finish(
        self,
        claim: Claim,
        state: State,
        *,
        error: str | None = None,
        usage: Mapping[str, int] | None = None,
        at: int | None = None,
    ) -> Entry:
        """See `Journal.finish`."""
        return await self._run(lambda: self._runs.finish(claim, state, error, usage, at))

    async def release(self, claim: Claim, *, again_after: float = 0.0, counts: bool = True) -> None:
        """See `Journal.release`."""
        await self._run(lambda: self._runs.release(claim, again_after, counts))

    async def wait_for_work(self, seconds: float) -> None:
        """See `Journal.wait_for_work`."""
        with self._bells.work() as bell:
            ready_in = await self._run(lambda: self._ledger.turns.ready_in(self._clock.time()))
            await bell.wait(seconds if ready_in is None else min(seconds, ready_in))

    async def read(self, id: str, offset: int, limit: int) -> bytes | None:
        """See `Journal.read`."""
        return await self._run(lambda: self._runs.read(id, offset, limit))

    async def wait_for_change(self, id: str, recorded: int, seconds: float) -> Entry | None:
        """See `Journal.wait_for_change`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        with self._bells.of(id) as bell:
            while True:
                entry = await self.get(id)
                left = until - loop.time()
                if entry is None or entry.over or entry.recorded > recorded or left <= 0:
                    return entry
                await bell.wait(left)
