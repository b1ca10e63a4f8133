"""The outermost ASGI app.

The frame makes the Exchange, admits or refuses the pages in browsers, owns `receive` and `send`, watches for a client
that leaves, renders every error, and records how a request ended. Nothing else in the project does any of these. Every
response passes `_Client.send`, whichever part begins it.
"""

import asyncio
import inspect
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import structlog

from proxy.chain.browser_gate import PageGate
from proxy.chain.heartbeats import Heartbeats
from proxy.chain.observer import Observer
from proxy.kernel.answer_recorder import Recorder, Stop
from proxy.kernel.asgi import ASGIApp, Header, Message, Receive, Scope, Send, has_body, header, respond
from proxy.kernel.body_budget import BodyBudget
from proxy.kernel.client_address import Trusted, client_address, is_trusted
from proxy.kernel.cross_origin import for_page
from proxy.kernel.error_rendering import render
from proxy.kernel.errors import ERROR_CODE, Cancelled, ClientGone, ProxyError, Refused, ShuttingDown, let_go
from proxy.kernel.exchange import KEY, Exchange
from proxy.kernel.exchange_parts import FramePart
from proxy.kernel.refusal_log import Refusals
from proxy.kernel.routes import RouteTable
from proxy.kernel.server_extensions import gone_because, when_gone, writer

log = structlog.get_logger("ollama_proxy.frame")


@dataclass(frozen=True, slots=True)
class Generation:
    """A configuration in force. A request keeps the generation that it began with, even when another is loaded."""

    number: int
    chain: ASGIApp
    routes: RouteTable
    trusted_proxies: Sequence[Trusted] = ()
    blame: Callable[[BaseException], str | None] = lambda _: None
    """Returns the name of the plugin that raised an exception, None where none did."""
    gate: PageGate = field(default_factory=PageGate)
    """Admits or refuses the requests of pages in browsers."""


class Frame:
    """Serves every request through the chain of the generation in force.

    Args:
        current: the generation that new requests get; assign another to change the configuration.
        bodies: the memory that request bodies may take.
        lifespan: a context manager that is entered when the server starts and left when it stops.
        observer: is told of every request.

    Attributes:
        live: the requests that run, each with its client.
        refusals: the number of requests that the gate for browsers refused, by the error's code.
    """

    def __init__(
        self,
        current: Generation,
        *,
        bodies: BodyBudget,
        lifespan: Callable[[], AbstractAsyncContextManager[None]] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.current = current
        self.live: dict[Exchange, _Client] = {}
        self._bodies = bodies
        self._lifespan = lifespan
        self._observer = observer
        self._finishing: set[asyncio.Task[None]] = set()
        self._refused = Refusals()
        self.refusals = self._refused.counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (or the server's lifespan)."""
        if scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
            return
        current = self.current
        client = _Client(receive, send, self._observer)
        exchange = Exchange(
            scope,
            client.receive,
            id=secrets.token_hex(8),
            routes=current.routes,
            client=client_address(scope, current.trusted_proxies),
            started_at=time.monotonic(),
            bodies=self._bodies,
            generation=current.number,
            relayed=is_trusted(scope, current.trusted_proxies),
        )
        client.exchange, client.note = exchange, exchange.part(FramePart)
        scope[KEY] = exchange
        self.live[exchange] = client
        client.watch()
        if self._observer is not None:
            self._observer.started(exchange)
        try:
            await self._serve(exchange, client, current)
        finally:
            client.unwatch()
            del self.live[exchange]
            self._finish(exchange)
            del scope[KEY]  # ends a reference cycle, which would wait for the garbage collector

    def cancel(self, request_id: str, reason: str) -> bool:
        """End a running request; returns whether it was running.

        Where the response has not begun, the client gets 499 with `reason`. A response that has begun breaks off, after
        an error record where its format allows one, and without the end that would make it look complete.
        """
        for exchange, client in self.live.items():
            if exchange.id == request_id:
                return client.cancel(Cancelled(reason))
        return False

    async def _serve(self, exchange: Exchange, client: "_Client", current: Generation) -> None:
        try:
            try:
                if self._admit(exchange, client, current.gate):
                    await respond(client.send, 204, [], b"")
                else:
                    if not has_body(exchange.scope):
                        await exchange.body()
                    await current.chain(exchange.scope, exchange.receive, client.send)
                if exchange.status is None or not exchange.ended:
                    raise RuntimeError("the chain returned without a complete answer")
                client.served()
            except ProxyError as error:
                if isinstance(error, Refused):
                    error.by = current.blame(error)
                await self._answer(exchange, client, error)
            except ClientGone:
                client.left_behind()
            except Exception as error:
                bug = _bug(exchange)
                bug.by = current.blame(error)
                log.exception("plugin_failed", request_id=exchange.id, plugin=bug.by)
                await self._answer(exchange, client, bug)
        except asyncio.CancelledError:
            await self._cancelled(exchange, client)

    def _admit(self, exchange: Exchange, client: "_Client", gate: PageGate) -> bool:
        """Return whether the request is a preflight request, which the frame answers; raises Refused."""
        try:
            client.page_fields = gate.admit(exchange)
            gate.check_host(exchange)
        except Refused as refused:
            self._refused.note(refused, exchange.client)
            raise
        if client.page_fields is None or (more := gate.preflight(exchange)) is None:
            return False
        client.page_fields += more
        return True

    async def _answer(self, exchange: Exchange, client: "_Client", error: ProxyError) -> None:
        """Respond with `error`. Leave a response that has begun without its end, so that it looks broken."""
        client.note.error = error
        client.note.outcome = error.outcome
        if exchange.status is None:
            status, headers, body = render(exchange.flavor, error, exchange.id)
            await respond(client.send, status, headers, body)

    async def _cancelled(self, exchange: Exchange, client: "_Client") -> None:
        """End a request whose chain was cancelled: by a client that left, an operator, or the server's shutdown."""
        if (task := asyncio.current_task()) is not None:
            task.uncancel()
        if exchange.gone:
            client.left_behind()
        else:
            await self._answer(exchange, client, exchange.error or ShuttingDown())

    def _finish(self, exchange: Exchange) -> None:
        exchange.part(FramePart).ended_at = time.monotonic()
        pending: list[Awaitable[None]] = []
        for finish in exchange.finishers():
            try:
                result = finish(exchange)
            except Exception:
                log.exception("finisher_failed", request_id=exchange.id)
                continue
            if result is not None and inspect.isawaitable(result):
                pending.append(result)
        if self._observer is not None:
            self._observer.finished(exchange)
        if exchange.error is not None:
            let_go(exchange.error)
        if pending:
            # Use another task: this one may have been cancelled because the client left.
            task = asyncio.create_task(self._settle(exchange, pending))
            self._finishing.add(task)
            task.add_done_callback(self._finishing.discard)

    async def _settle(self, exchange: Exchange, pending: list[Awaitable[None]]) -> None:
        for awaitable in pending:
            try:
                await awaitable
            except Exception:
                log.exception("finisher_failed", request_id=exchange.id)

    async def settled(self) -> None:
        """Wait until the callbacks of all finished requests are done."""
        while self._finishing:
            await asyncio.wait(self._finishing)

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        phase = "startup"
        try:
            async with self._lifespan() if self._lifespan else nullcontext():
                await send({"type": "lifespan.startup.complete"})
                phase = "shutdown"
                await receive()
                await self.settled()
        except Exception as error:
            log.exception("lifespan_failed", phase=phase)
            await send({"type": f"lifespan.{phase}.failed", "message": str(error)})
        else:
            await send({"type": "lifespan.shutdown.complete"})

    def __repr__(self) -> str:
        return f"<Frame generation {self.current.number}, {len(self.live)} live requests>"


class _Client:
    """The client of one request: its messages, the messages to it, and whether it is still connected.

    ASGI reports a disconnect only in `receive`, and nothing waits there while the request waits for a slot, a
    connection or a token. Our own server calls back. Under any other server, a task waits in `receive` after the end of
    the request body. In both cases the chain is cancelled.
    """

    __slots__ = (
        "_called_back", "_chain", "_heartbeats", "_observer", "_receive", "_recorder", "_send", "_watch", "_write",
        "exchange", "note", "page_fields",
    )  # fmt: skip

    exchange: Exchange
    note: FramePart
    """The frame's part of the exchange."""
    page_fields: list[Header] | None
    """The response fields for a page of another origin; None where the request is from no such page."""

    def __init__(self, receive: Receive, send: Send, observer: Observer | None) -> None:
        self._receive = receive
        self._send = send
        self._observer = observer
        self.page_fields = None
        self._chain = asyncio.current_task()
        self._called_back = False
        self._write: Callable[[bytes], bool] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._heartbeats: Heartbeats | None = None
        self._recorder: Recorder | None = None

    def watch(self) -> None:
        """From now on, cancel the chain when the client leaves; `exchange` must be set."""
        exchange = self.exchange
        self._called_back = when_gone(exchange.scope, self._left)
        self._write = writer(exchange.scope)
        self.note.beat = self.beat
        self.note.record = self.record
        if self._write is not None:
            self.note.shortcut = self.send, self.write

    async def receive(self) -> Message:
        if self._watch is not None:
            await asyncio.shield(self._watch)
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] != "http.request":
            self.note.gone = True
            return message
        self.note.bytes_in += len(message.get("body", b""))
        if not (self._called_back or message.get("more_body", False)):
            self._watch = asyncio.create_task(self._watch_for_disconnect())
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Count what goes out, and return the server's awaitable, without a coroutine of its own for each chunk."""
        note = self.note
        if message["type"] == "http.response.body":
            body = message.get("body")
            if body:
                note.chunks += 1
                note.bytes_out += len(body)
            if not message.get("more_body", False):
                note.ended = True
        else:
            note.status = message["status"]
            message = self._start(message["status"], message.get("headers", ()))
            if note.status >= 300 and (code := header(message["headers"], ERROR_CODE)) is not None:
                note.answer_code = code.decode("latin-1")
            if self._observer is not None:
                self._observer.answered(self.exchange)
            if self._heartbeats is not None:
                return self._start_late(self._heartbeats, message)
        return self._send(message)

    def _start(self, status: int, headers: Iterable[Header]) -> Message:
        """Return the message that begins the response, with the fields of the frame and of plugins."""
        exchange = self.exchange
        fields = [*headers, (b"x-request-id", exchange.id.encode()), *exchange.response_headers]
        if self.page_fields is not None:
            fields = for_page(fields, self.page_fields)
        return {"type": "http.response.start", "status": status, "headers": fields}

    def beat(self, send: Send, every: float, headers: list[Header]) -> None:
        """Send heartbeats from now on; see `FramePart.beat`."""
        if send == self.send and self._heartbeats is None and self.note.status is None:
            start = partial(self._start, 200, headers)
            self._heartbeats = Heartbeats(self._send, self.note, every=every, start=start)

    def record(self, recorder: Recorder) -> Stop | None:
        """Let `recorder` see all that is sent from now on; see `FramePart.record`."""
        if self._recorder is not None or self._heartbeats is not None or self.note.status is not None:
            return None
        self._recorder = recorder
        self._send = recorder.sending(self._send)
        if self._write is not None:
            self._write = recorder.writing(self._write)
        return self.stop

    async def _start_late(self, heartbeats: Heartbeats, start: Message) -> None:
        """Begin the answer where heartbeats may have begun the response."""
        late = await heartbeats.give_way(start, self.exchange.flavor)
        self._heartbeats = None
        if late is not None:
            self._send, self._write = late.send, late.take

    def write(self, chunk: bytes) -> bool:
        """Send a chunk as `send` does, but without awaiting; see `proxy.kernel.server_extensions.writer`."""
        note = self.note
        note.chunks += 1
        note.bytes_out += len(chunk)
        return self._write is not None and self._write(chunk)

    async def _watch_for_disconnect(self) -> None:
        while (await self._receive())["type"] == "http.request":
            pass
        self._left()

    def _left(self) -> None:
        if self._recorder is not None and not self.note.ended and self._recorder.outlives():
            self.note.detached = True
        else:
            self.stop(None)

    def stop(self, error: Cancelled | None) -> bool:
        """End the request, with `error`, or as its client has left; see `proxy.kernel.answer_recorder.Stop`."""
        if error is not None:
            return self.cancel(error)
        if self._chain is None or self.note.ended:
            return False
        self.note.gone = True
        return self._chain.cancel()

    def cancel(self, error: Cancelled) -> bool:
        """End the request with `error`; returns False where it has ended or is ending already."""
        note = self.note
        if self._chain is None or note.ended or note.gone or isinstance(note.error, Cancelled):
            return False
        note.error = error
        self._chain.cancel()
        return True

    def served(self) -> None:
        """Record the outcome of a request whose whole answer went out, which may be an error of the backend's own."""
        failure = self.exchange.failure
        self.note.outcome = "completed" if failure is None else failure.outcome
        self.note.error = failure

    def left_behind(self) -> None:
        """Record the outcome of a request whose client has left."""
        if self.exchange.terminated:
            self.served()
        else:
            self.note.outcome = "client_gone"
        self.note.error = self.note.error or gone_because(self.exchange.scope)

    def unwatch(self) -> None:
        """Stop watching, as the chain has ended."""
        self._chain = None
        for task in (self._watch, self._heartbeats):
            if task is not None:
                task.cancel()
        self._heartbeats = self._recorder = None


def _bug(exchange: Exchange) -> Refused:
    return Refused(500, f"the proxy failed on this request; its log says why under request id {exchange.id}")
