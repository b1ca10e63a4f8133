"""One run of an entry: its request passes the frame, its answer goes into the record, and its end into the journal."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from proxy.deferred.answer_writer import AnswerWriter, until_written
from proxy.kernel.asgi import ASGIApp, Header, Scope, header
from proxy.kernel.errors import ERROR_CODE
from proxy.kernel.exchange import KEY, Exchange
from proxy.kernel.inner_request import InnerClient, inner_scope
from proxy.kernel.journal import Claim, Entry, Fenced, Journal, State
from proxy.kernel.stored_run import RUN, StoredRun

PATIENCE: Final = 60.0
"""Seconds for which the end of a run is offered to a journal that does not answer."""
KEPT: Final = frozenset({b"content-type", b"cache-control", b"x-error-code", b"x-content-type-options"})
"""The fields of an answer that its readers get as well."""
LATER: Final = frozenset({429, 503})
"""Statuses of the proxy's own by which it says that a request is to come again."""
BROKEN: Final = frozenset({500, 502, 504})
"""Statuses of the proxy's own behind which a backend failed; another attempt may do better."""
LONGEST: Final = 300.0
"""The longest pause before another attempt, seconds."""


class Run:
    """Runs one claim.

    Args:
        journal: where the entry is.
        claim: the claim.
        attempts: how often an entry may run.
    """

    def __init__(self, journal: Journal, claim: Claim, *, attempts: int) -> None:
        self.claim = claim
        self._journal = journal
        self._attempts = attempts
        self._writer = AnswerWriter(journal, claim, self.stop)
        self._client = InnerClient(claim.body, begin=self._begins, take=self._takes, room=self._writer.room)
        self._scope = _scope_of(claim)
        self._exchange: Exchange | None = None
        self._again_after: float | None = None
        self._counts = True
        self._released = False

    @property
    def waits(self) -> bool:
        """Return whether the run has no backend yet."""
        exchange = self._exchange or self._scope.get(KEY)
        return exchange is None or exchange.backend is None

    def stop(self) -> None:
        """Stop the generation, as a client does that leaves."""
        self._client.leave()

    def fence(self) -> None:
        """Stop, as the claim is fenced."""
        self._writer.fence()

    def release(self) -> None:
        """Stop, and let another process run the entry."""
        self._released = True
        self.stop()

    async def run(self, frame: ASGIApp) -> Entry | None:
        """Run to the end; return the entry where it is over, None where somebody else has it, or it runs again."""
        try:
            await self._client.run(frame, self._scope)
            with suppress(Fenced):
                return await self._end()
            return None
        finally:
            self._writer.close()
            self._exchange = None
            self._scope.clear()

    # The answer

    def _begins(self, status: int, headers: list[Header]) -> None:
        self._exchange = self._scope.get(KEY)
        if header(headers, ERROR_CODE) is not None:
            pause = header(headers, b"retry-after")
            last = self.claim.entry.attempts >= self._attempts
            if status in LATER:
                self._again_after = min(LONGEST, float(pause) if pause and pause.isdigit() else 1.0)
                self._counts = False
            elif status in BROKEN and not last:
                self._again_after = min(LONGEST, float(2**self.claim.entry.attempts))
        if self._again_after is None:
            fields = [(name.decode("latin-1"), text.decode("latin-1")) for name, text in headers if name in KEPT]
            self._writer.begin(status, fields)

    def _takes(self, part: bytes) -> bool:
        return True if self._again_after is not None else self._writer.take(part)

    # The end

    async def _end(self) -> Entry | None:
        """Write how the run ended; raises Fenced."""
        journal, claim = self._journal, self.claim
        if self._again_after is not None or self._released:
            pause = self._again_after or 0.0
            counts = self._counts and not self._released
            await until_written(lambda: journal.release(claim, again_after=pause, counts=counts), PATIENCE)
            return None
        await self._writer.flush()
        if self._writer.fenced:
            return None
        if self._writer.full is not None:
            return await self._finish("failed", f"record_full: {self._writer.full}")
        exchange, status = self._exchange, self._client.status
        error, outcome = _error_of(exchange, status), exchange.outcome if exchange is not None else None
        if outcome == "cancelled":
            return await self._finish("cancelled", error)
        if error is None and self._client.complete:
            return await self._finish("completed", None)
        if not self._client.complete and await self._may_run_again():
            await until_written(lambda: journal.release(claim, again_after=1.0), PATIENCE)
            return None
        return await self._finish("failed", error or "upstream_truncated: the answer broke off")

    async def _may_run_again(self) -> bool:
        """Return whether the answer that broke off may be made anew: nobody has read a byte of it."""
        entry = await self._journal.get(self.claim.entry.id)
        return entry is not None and not entry.read and entry.attempts < self._attempts

    async def _finish(self, state: State, error: str | None) -> Entry | None:
        ended: list[Entry] = []

        async def finish() -> None:
            ended.append(await self._journal.finish(self.claim, state, error=error, usage=_usage_of(self._exchange)))

        await until_written(finish, PATIENCE)
        return ended[0] if ended else None


def _scope_of(claim: Claim) -> Scope:
    entry = claim.entry
    headers = [(name.encode("latin-1"), text.encode("latin-1")) for name, text in entry.headers]
    scope = inner_scope(
        entry.method,
        entry.path,
        query=entry.query.encode("latin-1"),
        headers=headers,
        length=len(claim.body),
        client=(entry.caller.client, 0),
        stored=entry.caller,
    )
    scope[RUN] = StoredRun(entry.id, entry.priority)
    return scope


def _error_of(exchange: Exchange | None, status: int | None) -> str | None:
    """Return the error that a run ended with, as ``code: message``; None where it ended well."""
    if exchange is not None and (error := exchange.error) is not None:
        return f"{error.code}: {error.message}"
    if status is not None and status >= 400:
        return f"http_{status}: the answer has the status {status}"
    return None


def _usage_of(exchange: Exchange | None) -> Mapping[str, int]:
    usage = exchange.usage if exchange is not None else None
    if usage is None:
        return {}
    counts = {"tokens_in": usage.tokens_in, "tokens_out": usage.tokens_out}
    return {name: count for name, count in counts.items() if count is not None}


async def wait_for(tasks: set["asyncio.Task[None]"], seconds: float) -> set["asyncio.Task[None]"]:
    """Wait for tasks; return those that are not done after `seconds`."""
    if not tasks:
        return set()
    _, left = await asyncio.wait(tasks, timeout=seconds)
    return left
