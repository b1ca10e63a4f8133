"""The runner: it claims the entries of the journal whose turn it is, as far as there are slots, and runs them.

An entry is claimed when a slot is free. It then passes the same chain as any request, where the queue gives it a slot
below all live requests. What is claimed and has no slot yet is bounded by `PENDING`: such entries are for a model whose
slots are taken while others are free, and after `proxy.deferred.run.SLOT_WAIT` each gives way to those behind it, so
that the backlog of one model does not stop the others.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from proxy.deferred.run import Home, Run
from proxy.kernel.log_throttle import Seldom
from proxy.kernel.running_terms import RunningTerms
from proxy.kernel.slot_scheduling import Slots
from proxy.kernel.store import StoreUnavailable

LOST_AFTER: Final = 9.0
"""Seconds without a beat after which the owner of an entry is taken for dead."""
LOOK: Final = LOST_AFTER / 2
"""Seconds between two looks into the journal while nothing is heard of it: an owner that is lost says nothing."""
PENDING: Final = 8
"""Entries that may be claimed and have no backend yet."""
SOON: Final = 0.2
"""Seconds within which an entry that finds a free slot has its backend; no other is claimed until then."""
PACE: Final = 0.02
"""Seconds between two claims behind an entry that found no backend, as many may find none."""

log = structlog.get_logger("ollama_proxy.deferred")


class Runner:
    """Runs the entries of a journal.

    Args:
        home: where they are, and what serves them.
        slots: says when a slot is free.
        serving: returns False once the process is about to stop; then nothing more is claimed.
    """

    def __init__(self, home: Home, slots: Slots, serving: Callable[[], bool] = lambda: True) -> None:
        self._home = home
        self._journal = home.journal
        self._slots = slots
        self._serving = serving
        self._terms: RunningTerms | None = None
        self._owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._runs: dict[Run, asyncio.Task[bool]] = {}
        self._gave_way = False
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._seldom = Seldom()
        slots.on_free(self._slot_is_free)

    @property
    def running(self) -> int:
        """Return the number of entries that this process runs."""
        return len(self._runs)

    def use(self, terms: RunningTerms | None) -> None:
        """Run entries on these terms from now on; with None claim none. What runs goes on."""
        self._terms = terms
        self._news.set()

    def start(self) -> None:
        """Begin to claim."""
        self._tasks = [asyncio.create_task(self._claim_forever()), asyncio.create_task(self._beat_forever())]

    async def stop(self, seconds: float) -> None:
        """Claim no more, let what runs finish within some seconds, and queue the rest again."""
        if not self._tasks:
            return
        claiming, beating = self._tasks
        self._tasks = []
        claiming.cancel()
        await asyncio.wait([claiming])
        if self._runs and seconds > 0:
            await asyncio.wait(list(self._runs.values()), timeout=seconds)
        for run in list(self._runs):
            run.stop()
        if self._runs:
            await asyncio.wait(list(self._runs.values()))
        beating.cancel()
        await asyncio.wait([beating])

    def _slot_is_free(self) -> None:
        """Wake the claiming task, which has nothing to do where nothing is deferred."""
        if self._terms is not None:
            self._news.set()

    async def _claim_forever(self) -> None:
        while True:
            self._news.clear()
            try:
                if not await self._claim_next():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK):
                            await self._news.wait()
                elif self._gave_way:
                    self._gave_way = False
                    await asyncio.sleep(PACE)
            except StoreUnavailable as error:
                if (left_out := self._seldom.left_out()) is not None:
                    log.warning("deferred_waits", error=str(error), left_out=left_out)
                await asyncio.sleep(1.0)

    async def _claim_next(self) -> bool:
        """Claim an entry and run it, or wait until there is one; return False where there is no room for any."""
        terms = self._terms
        if terms is None or not self._serving() or not self._has_room(terms):
            return False
        claim = await self._journal.claim(self._owner, attempts=terms.attempts, lost_after=LOST_AFTER)
        if claim is None:
            await self._journal.wait_for_work(LOOK)
            return True
        run = Run(claim, self._home, self._news)
        self._runs[run] = task = asyncio.create_task(self._perform(run))
        task.add_done_callback(lambda done: self._ended(run, done))
        with suppress(TimeoutError):
            async with asyncio.timeout(SOON):
                await run.placed.wait()
        return True

    def _has_room(self, terms: RunningTerms) -> bool:
        pending = sum(not run.placed.is_set() for run in self._runs)
        return len(self._runs) < terms.parallel and pending < PENDING and self._slots.any_free(if_asked=True)

    async def _perform(self, run: Run) -> bool:
        """Perform a run, whatever happens; return whether its entry is over. One that failed by a bug is taken up."""
        try:
            return await run.perform()
        except Exception:
            log.exception("deferred_run_failed", entry=run.claim.entry.id)
            return True

    def _ended(self, run: Run, task: asyncio.Task[bool]) -> None:
        self._runs.pop(run, None)
        self._news.set()
        if not task.cancelled() and not task.result():
            self._gave_way = True

    async def _beat_forever(self) -> None:
        """Say for all runs that they are worked on, in one call, and end those that somebody else has."""
        while True:
            await asyncio.sleep(LOST_AFTER / 3)
            runs = {run.claim.entry.id: run for run in self._runs}
            if not runs:
                continue
            try:
                fenced = await self._journal.beat([run.claim for run in runs.values()])
            except StoreUnavailable:
                continue  # whoever misses the beats takes the entries; then this process is fenced
            for name in fenced:
                if runs[name] in self._runs:
                    runs[name].fenced()
