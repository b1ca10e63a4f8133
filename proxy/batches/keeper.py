"""The keeper of batches: it takes each open batch a step further, until it has ended.

A step is found from what the journal says, and may be taken twice: so any process may take it, and one that was killed
leaves nothing that another could not go on with. A batch is looked at when something has happened to it, and every
`EVERY` seconds in any case.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import structlog

from proxy.batches.ending import end, ends_as
from proxy.batches.feeding import feed
from proxy.batches.input_lines import check_lines
from proxy.batches.progress import form_of, open_in, status_of, terms_of
from proxy.kernel.clock import Clock
from proxy.kernel.journal import Entry, Journal, JournalFull, Query
from proxy.kernel.store import StoreUnavailable
from proxy.kernel.worker_threads import off_loop

EVERY: Final = 2.0
"""Seconds between two looks at all open batches."""
MOST: Final = 1000
"""Open batches that are looked at."""

log = structlog.get_logger("ollama_proxy.batches")


class Keeper:
    """Takes batches further.

    Args:
        journal: where they are.
        clock: tells the time.
        over: called with each batch that has ended here.
    """

    def __init__(self, journal: Journal, clock: Clock, over: Callable[[Entry], None]) -> None:
        self._journal = journal
        self._clock = clock
        self._over = over
        self._active = False
        self._kicked: set[str] = set()
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._lines: tuple[str, bytes] | None = None
        """The lines that were read last: those of one batch, and no more."""

    def use(self, active: bool) -> None:
        """Take batches further from now on, or leave them where they are: the policy in force keeps none."""
        self._active = active

    def start(self) -> None:
        """Begin; does nothing where that has been done."""
        if self._task is None:
            self._task = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        """Stop where it is; another process, or the next start, goes on."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def ended(self, entry: Entry) -> None:
        """Look at the batch that a request belonged to which is over now."""
        if entry.parent is not None:
            self.kick(entry.parent)

    def kick(self, batch: str) -> None:
        """Look at a batch soon: something has happened to it."""
        self._kicked.add(batch)
        self._bell.set()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        again_at = loop.time()
        while True:
            answers = True
            if loop.time() >= again_at:
                again_at = loop.time() + EVERY
                answers = not self._active or await self._taken(self._find())
            while answers and self._kicked:
                answers = await self._taken(self._advance(self._kicked.pop()))
            self._bell.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(again_at):
                    await self._bell.wait()

    async def _taken(self, step: Awaitable[None]) -> bool:
        """Take a step; one that fails stops no other batch. Return whether the journal answers."""
        try:
            await step
        except StoreUnavailable:
            return False  # whoever owns the journal has logged it
        except JournalFull as full:
            log.warning("batch_not_ended", reason=str(full))
        except Exception:
            log.exception("batches_failed")
        return True

    async def _find(self) -> None:
        """Find all batches that are open."""
        asked = Query(kinds=("batch",), states=("queued", "running"), limit=MOST)
        found = await self._journal.entries(asked)
        self._kicked.update(batch.id for batch in found)
        if not found:
            self._lines = None

    async def _advance(self, id: str) -> None:
        """Take a batch as far as it can go now."""
        batch: Entry | None = await self._journal.get(id)
        if batch is None or batch.kind != "batch" or batch.over:
            return
        data = await self._data(batch)
        if status_of(batch) == "validating":
            batch = await self._validate(batch, data)
            if batch is None or batch.over:
                return
        expired = self._clock.time() >= batch.meta["deadline"] or (data is None and not _is_fed(batch))
        if status_of(batch) == "cancelling" or expired:
            await self._cancel_requests(batch)
        elif data is not None and not _is_fed(batch):
            batch = await feed(self._journal, batch, data, self._clock)
        if batch is None or open_in(await self._journal.children(id)):
            return
        if expired or status_of(batch) == "cancelling" or _is_fed(batch):
            await self._end(batch, data, expired=expired)

    async def _end(self, batch: Entry, data: bytes | None, *, expired: bool) -> None:
        if status_of(batch) == "in_progress":
            await self._journal.set_meta(batch.id, {"finalizing_at": self._clock.time()})
        ended = await end(self._journal, batch, data, ends_as(batch, expired=expired), self._clock)
        self._lines = None
        if ended is not None and ended.over:
            self._over(ended)

    async def _validate(self, batch: Entry, data: bytes | None) -> Entry | None:
        """Check the lines of a batch; return it as it is then."""
        bounds, now = terms_of(batch), self._clock.time()
        if data is None:
            gone = {"code": "no_such_file", "message": "the file is gone", "line": None, "param": "input_file_id"}
            changes: dict[str, Any] = {"failed_at": now, "problems": [gone]}
            return await self._fail(batch, changes)
        check = (data, form_of(batch), bounds.defer.max_body)
        total, problems, model = await off_loop(batch.caller.owner, check_lines, *check)
        listed: list[dict[str, Any]] = [problem._asdict() for problem in problems]
        if total > bounds.bounds.lines:
            message = f"the file has {total} requests, and a batch may have {bounds.bounds.lines}"
            listed = [{"code": "too_many_lines", "message": message, "line": None, "param": None}]
        if listed:
            return await self._fail(batch, {"failed_at": now, "problems": listed})
        changes = {"in_progress_at": now, "total": total, "model": model}
        return await self._journal.set_meta(batch.id, changes, state="running")

    async def _fail(self, batch: Entry, changes: Mapping[str, Any]) -> Entry | None:
        """End a batch of which nothing can run."""
        ended = await self._journal.set_meta(batch.id, changes, state="failed")
        if ended is not None:
            self._over(ended)
        return ended

    async def _cancel_requests(self, batch: Entry) -> None:
        asked = Query(parent=batch.id, states=("queued", "running"), limit=MOST)
        for entry in await self._journal.entries(asked):
            await self._journal.cancel(entry.id, "its batch was cancelled or has expired")

    async def _data(self, batch: Entry) -> bytes | None:
        """Return the lines of a batch; None where its file is gone."""
        name = str(batch.meta["input"])
        if self._lines is not None and self._lines[0] == name:
            return self._lines[1]
        data = await self._journal.body(name)
        self._lines = (name, data) if data is not None else None
        return data


def _is_fed(batch: Entry) -> bool:
    return bool(batch.meta.get("fed", 0) >= batch.meta.get("total", 0))
