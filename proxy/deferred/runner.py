"""The runner: it claims entries of the journal when a slot is free, and runs them through the chain.

Deferred work fills what live requests leave free. So an entry is claimed only while a slot is free, and no more than
`PENDING` claimed entries wait in the queue: another request may have been quicker, or the free slot is one for another
model. Where hosts have no slots, `UNBOUNDED` entries run at a time.
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from proxy.deferred.run import Run, wait_for
from proxy.kernel.asgi import ASGIApp
from proxy.kernel.journal import Claim, Entry, Journal
from proxy.kernel.slot_scheduling import Slots
from proxy.kernel.store import StoreUnavailable

ATTEMPTS: Final = 3
"""How often an entry may run before it is ``dead``."""
LOST_AFTER: Final = 10.0
"""Seconds without a beat after which an owner counts as dead."""
BEAT_EVERY: Final = 0.5
"""Seconds between two beats. By a beat, too, an entry is found to be cancelled at another proxy."""
PENDING: Final = 2
"""Claimed entries that may wait for a slot."""
UNBOUNDED: Final = 8
"""Entries that run at a time where no host bounds its requests."""
LOOK_EVERY: Final = 2.0
"""Seconds between two looks for work, where nobody says that there is some."""
SOON: Final = 0.05
"""Seconds between two looks at entries that wait for their slot."""

log = structlog.get_logger("ollama_proxy.deferred")


class Runner:
    """Runs the entries of a journal.

    Args:
        journal: where they are.
        slots: says whether a slot is free.
        frame: answers their requests.
        over: called with each entry that this process has brought to an end.

    Attributes:
        running: the runs of this process, by the id of their entry.
    """

    def __init__(self, journal: Journal, slots: Slots, frame: ASGIApp, over: Callable[[Entry], None]) -> None:
        self._journal = journal
        self._slots = slots
        self._frame = frame
        self._over = over
        self._owner = secrets.token_hex(8)
        self._tasks: set[asyncio.Task[None]] = set()
        self._serving: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._bounded = True
        self.running: dict[str, Run] = {}
        slots.on_free(self._changed.set)

    def start(self) -> None:
        """Begin to claim; does nothing where that has begun."""
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve())

    async def stop(self, seconds: float) -> None:
        """Claim nothing more, let runs end for `seconds`, and let other processes have what is left."""
        for task in (self._serving,):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        self._serving = None
        await wait_for(self._tasks, seconds)
        for run in list(self.running.values()):
            run.release()
        await wait_for(self._tasks, LOST_AFTER)
        if self._beating is not None:
            self._beating.cancel()

    async def look(self, id: str) -> None:
        """Stop the run of an entry that was cancelled or deleted, where it is one of this process."""
        run = self.running.get(id)
        if run is not None and await self._journal.beat([run.claim]):
            run.fence()

    # Claiming

    async def _serve(self) -> None:
        while True:
            try:
                await self._until_room()
                claim = await self._journal.claim(self._owner, attempts=ATTEMPTS, lost_after=LOST_AFTER)
                if claim is None:
                    await self._journal.wait_for_work(LOOK_EVERY)
                else:
                    self._begin(claim)
            except StoreUnavailable:
                await asyncio.sleep(LOOK_EVERY)
            except Exception:  # a bug must not end all deferred work
                log.exception("deferred_work_failed")
                await asyncio.sleep(LOOK_EVERY)

    async def _until_room(self) -> None:
        """Return when a slot is free, and few of the entries that were claimed wait for theirs."""
        while not self._has_room():
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(SOON if self._pending else LOOK_EVERY):
                    await self._changed.wait()

    @property
    def _pending(self) -> int:
        return sum(run.waits for run in self.running.values())

    def _has_room(self) -> bool:
        if not self._slots.any_free():
            return False
        return self._pending < PENDING and (self._slots.bounded() or len(self.running) < UNBOUNDED)

    def _begin(self, claim: Claim) -> None:
        run = self.running[claim.entry.id] = Run(self._journal, claim, attempts=ATTEMPTS)
        task = asyncio.create_task(self._run(claim.entry.id, run))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._beating is None or self._beating.done():
            self._beating = asyncio.create_task(self._beat())

    async def _run(self, id: str, run: Run) -> None:
        try:
            entry = await run.run(self._frame)
            if entry is not None:
                self._over(entry)
        except StoreUnavailable as error:
            log.warning("deferred_end_lost", entry=id, error=str(error))
        except Exception:
            log.exception("deferred_run_failed", entry=id)
        finally:
            del self.running[id]
            self._changed.set()

    # Beating

    async def _beat(self) -> None:
        while self.running:
            await asyncio.sleep(BEAT_EVERY)
            with suppress(StoreUnavailable):
                for fenced in await self._journal.beat([run.claim for run in self.running.values()]):
                    if fenced in self.running:
                        self.running[fenced].fence()
