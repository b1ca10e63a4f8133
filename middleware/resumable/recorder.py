"""The recorder of one answer: it begins the record, and decides whether the request outlives its client."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from middleware.resumable.live_records import LiveRecords
from middleware.resumable.record import Record
from proxy.kernel.acceptance import reader_of
from proxy.kernel.answer_recorder import Recorder, Stop
from proxy.kernel.asgi import Header, Message, Send
from proxy.kernel.clock import Clock
from proxy.kernel.errors import Cancelled
from proxy.kernel.exchange import Exchange
from proxy.kernel.journal import Journal, NewEntry

FIELDS: Final = frozenset({b"content-type", b"cache-control", b"x-content-type-options", b"x-accel-buffering"})
"""The fields of an answer that a reader of its record gets as well."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The options of `resumable`, and where it records."""

    journal: Journal
    clock: Clock
    live: LiveRecords
    grace: float
    keep: int
    expire: float


class AnswerRecorder(Recorder):
    """Records the answer to one request, if that turns out to be a stream.

    Args:
        exchange: the request.
        rules: the options.
    """

    __slots__ = ("_exchange", "_record", "_rules", "_stop", "_waiting")

    def __init__(self, exchange: Exchange, rules: Rules) -> None:
        self._exchange: Exchange | None = exchange
        self._rules = rules
        self._record: Record | None = None
        self._stop: Stop | None = exchange.record(self) if exchange.record is not None else None
        self._waiting: asyncio.TimerHandle | asyncio.Task[None] | None = None
        """For somebody who reads on."""
        if self._stop is not None:
            exchange.on_finish(self.finish)

    # What is sent

    def sending(self, send: Send) -> Send:
        """Return what sends a message by `send` and records it; see `Recorder`."""

        def record(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                return self._start(message, send)
            kept = self._record
            if kept is not None and kept.open and (body := message.get("body")):
                kept.put(body)
            return send(message)

        return record

    def writing(self, write: Callable[[bytes], bool]) -> Callable[[bytes], bool]:
        """Return what writes a chunk by `write` and records it; see `Recorder`."""

        def record(chunk: bytes) -> bool:
            kept = self._record
            if kept is not None and kept.open:
                kept.put(chunk)
            return write(chunk)

        return record

    async def _start(self, start: Message, send: Send) -> None:
        """Begin the answer; where it is a stream, put its record into the journal first, and say where that is."""
        exchange = self._exchange
        if exchange is not None and exchange.stream and start["status"] == 200 and await self._add(exchange, start):
            link: Header = (b"link", b'</-/requests/%b/answer>; rel="resume"' % exchange.id.encode())
            start = {**start, "headers": [*start["headers"], link]}
        await send(start)

    async def _add(self, exchange: Exchange, start: Message) -> bool:
        rules, now = self._rules, self._rules.clock.time()
        new = NewEntry(
            id=exchange.id,
            kind="live",
            caller=reader_of(exchange),
            method=exchange.scope["method"],
            path=exchange.scope["path"],
            flavor=exchange.flavor,
            model=exchange.model.short if exchange.model else None,
            created_at=now,
            expires_at=now + rules.expire,
            most_answer=rules.keep,
        )
        record = self._record = Record(rules.journal, new, self._lost)
        fields = [(name.decode("latin-1"), text.decode("latin-1")) for name, text in start["headers"] if name in FIELDS]
        if await record.add(start["status"], fields):
            rules.live.add(record)
            return True
        self._record = None
        return False

    # A client that leaves

    def outlives(self) -> bool:
        """Return whether the request goes on without its client; see `Recorder`."""
        record = self._record
        if record is None or not record.open:
            return False
        record.write_often()
        self._waiting = asyncio.get_running_loop().call_later(self._rules.grace, self._look, record)
        return True

    def _look(self, record: Record) -> None:
        self._waiting = asyncio.create_task(self._go_on_or_stop(record))

    async def _go_on_or_stop(self, record: Record) -> None:
        """Stop the generation where nobody has come to read on."""
        if record.open and not await record.is_followed() and self._stop is not None:
            self._stop(None)

    def _lost(self, error: Cancelled | None) -> None:
        """Stop the generation where nobody can get its answer any more, or somebody has ended it."""
        detached = self._exchange is not None and self._exchange.detached
        if self._stop is not None and (error is not None or detached):
            self._stop(error)

    # The end

    def finish(self, exchange: Exchange) -> Awaitable[None] | None:
        """End the record as the request has ended."""
        self._stop = self._exchange = None
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()
        record, self._record = self._record, None
        if record is None:
            return None
        record.lost = None
        return self._end(exchange, record)

    async def _end(self, exchange: Exchange, record: Record) -> None:
        if record.adding:  # the client left meanwhile, and never learned of it
            await record.delete()
            return
        usage, error = exchange.usage, exchange.error
        counts = {"tokens_in": usage.tokens_in, "tokens_out": usage.tokens_out} if usage else {}
        known = {name: count for name, count in counts.items() if count is not None}
        said = None if error is None or exchange.ended else f"{error.code}: {error.message}"
        if exchange.ended:
            ended = await record.end("completed", said, known)
        elif error is None or error.outcome == "cancelled":
            ended = await record.end("cancelled", said, known)
        else:
            ended = await record.end("failed", said, known)
        self._rules.live.discard(record)
        if ended and exchange.ended and not exchange.detached:
            self._rules.live.delete_after(record, self._rules.grace)
