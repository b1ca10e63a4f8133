"""One run of an entry: its request passes the frame, its answer is recorded, and the journal is told how it ended."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import structlog

from proxy.deferred.record_writer import PATIENCE, PAUSE, RecordWriter
from proxy.deferred.verdict import SOON, Again, Ended, Over, judge
from proxy.kernel.acceptance import ATTEMPTS, RUN_BY
from proxy.kernel.asgi import ASGIApp, Header, Scope
from proxy.kernel.clock import Clock
from proxy.kernel.exchange import Exchange
from proxy.kernel.inner_request import InnerClient, inner_scope
from proxy.kernel.journal import Claim, Entry, Fenced, Journal, JournalFull
from proxy.kernel.store import StoreUnavailable
from proxy.kernel.stored_run import RUN, StoredRun
from proxy.kernel.webhooks import Webhooks

SLOT_WAIT: Final = 10.0
"""Seconds that a run waits in the queue; then it gives way to entries for other models, and comes again."""
LOOK: Final = 60.0
"""Seconds between two looks whether an entry was cancelled; who cancels it at the same home wakes the watch at once."""

_NOT_RECORDED: Final = frozenset({
    b"connection", b"content-length", b"date", b"keep-alive", b"link", b"server", b"set-cookie", b"transfer-encoding",
    b"x-request-id", b"ratelimit", b"ratelimit-policy",
})  # fmt: skip
"""The fields of an answer that hold for the run alone, not for those who read its record."""

log = structlog.get_logger("ollama_proxy.deferred")


@dataclass(frozen=True, slots=True)
class Home:
    """What runs share.

    Attributes:
        journal: where their entries are.
        app: serves their requests: the frame.
        clock: tells whether their time is up.
        webhooks: tells whom it concerns that an entry is over.
        over: called with each entry that is over.
    """

    journal: Journal
    app: ASGIApp
    clock: Clock
    webhooks: Webhooks
    over: Callable[[Entry], None] = lambda _: None


class Run:
    """The run of one claim; `perform` runs it, once.

    Args:
        claim: what is run.
        home: what it shares with others.
        news: set when a backend was chosen.

    Attributes:
        claim: the right to run the entry.
        placed: set when a backend was chosen, or the run has ended.
    """

    def __init__(self, claim: Claim, home: Home, news: asyncio.Event) -> None:
        self.claim = replace(claim, body=b"")  # the client has it, until it was sent
        self.placed = asyncio.Event()
        self._home = home
        self._writer = RecordWriter(home.journal, self.claim)
        self._scope = self._make_scope(len(claim.body), partial(_set, self.placed, news))
        self._client: InnerClient | None = InnerClient(
            claim.body, begin=self._begin, take=self._take, room=self._writer.room
        )
        self._exchange: Exchange | None = None
        self._stopped = self._fenced = False

    def fenced(self) -> None:
        """End the run, as somebody else has the entry now, or it was cancelled or deleted."""
        self._fenced = True
        self._leave()

    def stop(self) -> None:
        """End the run, as the process is about to stop; the entry is queued again where nothing of it is recorded."""
        self._stopped = True
        self._leave()

    async def perform(self) -> bool:
        """Let the request pass the app, and tell the journal how it ended; return whether it is over."""
        watch = asyncio.create_task(self._watch())
        try:
            if self._client is not None and not self._is_too_late():
                await self._client.run(self._home.app, self._scope)
            return await self._settle()
        finally:
            watch.cancel()
            self.placed.set()
            self._client = self._exchange = None  # they lead back to this

    def _leave(self) -> None:
        if self._client is not None:
            self._client.leave()

    def _make_scope(self, length: int, placed: Callable[[], None]) -> Scope:
        entry = self.claim.entry
        headers: list[Header] = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in entry.headers]
        scope = inner_scope(
            entry.method,
            entry.path,
            query=entry.query.encode("latin-1"),
            headers=headers,
            length=length,
            client=(entry.caller.client, 0),
            stored=entry.caller,
        )
        scope[RUN] = StoredRun(entry.id, entry.priority, SLOT_WAIT, placed)
        return scope

    def _is_too_late(self) -> bool:
        by = self.claim.entry.meta.get(RUN_BY)
        return isinstance(by, int | float) and self._home.clock.time() > by

    def _begin(self, status: int, headers: list[Header]) -> None:
        self._exchange = Exchange.of(self._scope)
        kept = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in headers
            if name not in _NOT_RECORDED and not name.startswith(b"access-control-")
        ]
        self._writer.begin(status, kept)

    def _take(self, data: bytes) -> bool:
        if self._writer.error is not None:
            self._leave()
        return self._writer.take(data)

    async def _watch(self) -> None:
        """End the run promptly when the entry is cancelled, deleted, or taken by somebody else."""
        claim = self.claim
        while True:
            try:
                entry = await self._home.journal.wait_for_change(claim.entry.id, sys.maxsize, LOOK)
            except StoreUnavailable:
                await asyncio.sleep(PAUSE)
                continue
            if entry is None or entry.over or entry.fence != claim.fence:
                self.fenced()
                return

    # The end

    async def _settle(self) -> bool:
        """Write what is left of the record, and end the entry or queue it again; return whether it is over."""
        await self._writer.end(keep=False)
        verdict = self._verdict()
        if isinstance(verdict, Over):
            await self._writer.end(keep=True)
        if self._fenced or isinstance(self._writer.error, Fenced):
            return True
        if self._writer.error is not None:
            verdict = self._unwritten(self._writer.error)
        until = asyncio.get_running_loop().time() + PATIENCE
        while True:
            try:
                await self._tell(verdict)
                return isinstance(verdict, Over)
            except Fenced:
                return True
            except StoreUnavailable as lost:
                if asyncio.get_running_loop().time() > until:
                    log.error("deferred_end_lost", entry=self.claim.entry.id, error=str(lost))
                    return True
            await asyncio.sleep(PAUSE)

    def _unwritten(self, error: Exception) -> Over | Again:
        """Return what becomes of the entry where its answer cannot be recorded."""
        if isinstance(error, JournalFull):
            return Over("failed", f"answer_too_long: {error}")
        if self._writer.recorded:
            return Over("failed", f"journal_unavailable: {error}")
        return Again(SOON, counts=False)

    async def _tell(self, verdict: Over | Again) -> None:
        """Tell the journal what becomes of the entry."""
        entry = self.claim.entry
        if isinstance(verdict, Again):
            await self._home.journal.release(self.claim, again_after=verdict.after, counts=verdict.counts)
            return
        at = self._writer.recorded if verdict.state == "completed" else None
        ended = await self._home.journal.finish(
            self.claim, verdict.state, error=verdict.error, usage=self._usage(), at=at
        )
        self._home.webhooks.notify(ended)
        self._home.over(ended)
        if verdict.state == "dead":
            log.error("deferred_dead", entry=entry.id, error=verdict.error, attempts=entry.attempts)

    def _verdict(self) -> Over | Again:
        entry, exchange, client = self.claim.entry, self._exchange, self._client
        status = client.status if client is not None else None
        if status is None and not self._stopped and self._is_too_late():
            return Over("expired", "expired: its turn did not come in the time that it may wait")
        error = exchange.error if exchange is not None else None
        attempts = entry.meta.get(ATTEMPTS)
        return judge(
            Ended(
                outcome=exchange.outcome if exchange is not None else None,
                status=status,
                code=exchange.error_code if exchange is not None else None,
                message=error.message if error is not None else "",
                retry_after=_seconds(error.headers.get("retry-after")) if error is not None else None,
                recorded=self._writer.recorded,
                complete=client is not None and client.complete,
                stopped=self._stopped,
                attempts=entry.attempts,
                most_attempts=attempts if isinstance(attempts, int) else 1,
            )
        )

    def _usage(self) -> Mapping[str, int] | None:
        usage = self._exchange.usage if self._exchange is not None else None
        if usage is None:
            return None
        counts = {"tokens_in": usage.tokens_in, "tokens_out": usage.tokens_out}
        return {name: count for name, count in counts.items() if count is not None}


def _set(*events: asyncio.Event) -> None:
    for event in events:
        event.set()


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdigit() else None
