"""uvicorn's HTTP protocol, guarded: it bounds, times and refuses before an application sees anything.

A connection is in one phase at a time::

    HEAD ──whole head──▶ BODY ──whole body──▶ ANSWER ──answered──▶ HEAD …
      └──────refused──────┴───────▶ LINGER ──▶ closed

One request at a time: what arrives behind a request (pipelining) is kept, up to `KEPT_BYTES`, and parsed only when the
answer is out. So a refusal never lands inside a running answer, and the running request is always the one that is told
of a disconnect: reading never stops while it is answered.

A head is collected whole (``head_reader.py``), checked (``request_rules.py``), and given to llhttp in one piece.

For a chunk of an answer only ``shortcut.py`` runs, or uvicorn's `send`.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Literal

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Header
from proxy.kernel.errors import ProxyError, Refused, ShuttingDown, let_go
from proxy.kernel.server_extensions import REASON, REGISTER, WRITE
from proxy.server import request_rules
from proxy.server.chunk_writer import chunk_writer
from proxy.server.connection_counts import Place
from proxy.server.deadline import Deadline, late
from proxy.server.head_reader import HeadReader
from proxy.server.http10 import without_chunks
from proxy.server.paused_sockets import HeardFlow
from proxy.server.shared_state import SharedState, uvicorn_log

KEPT_BYTES: Final = 65_536
LINGER_SECONDS: Final = 2.0

_HEAD: Final = "head"
_BODY: Final = "body"
_ANSWER: Final = "answer"
_LINGER: Final = "linger"
_Phase = Literal["head", "body", "answer", "linger"]


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    server_state: SharedState
    _flow: HeardFlow

    def __init__(
        self,
        config: Config,
        server_state: SharedState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.options = server_state.options
        self.place: Place | None = None
        """What the connection is counted by, where somebody counts."""
        self.timeout_keep_alive = self.options.keep_alive  # type: ignore[assignment]  # uvicorn only adds it to a time
        self.logger = uvicorn_log
        self._phase: _Phase = _HEAD
        self._version = b"1.1"
        self._hosts: tuple[bytes, ...] = ()
        """Whom the target names; see `framing.Head`."""
        self._head = HeadReader(self.options.head_bytes, self.options.head_fields)
        self._kept = bytearray()
        """What arrived behind the request that is answered."""
        self._length: int | None = 0
        """Bytes of the body still to come, None while it is chunked."""
        self._overhead = 0
        """Bytes of chunk sizes, extensions and trailers since the last byte of body."""
        self._body_moved = False
        self._governed: list[Header] = []
        """The fields of the head that `framing.check_fields` is about."""
        self._refusal: Refused | None = None
        """What a callback of the parser found wrong."""
        self._waiting_app: ASGI3Application | None = None
        """The application, until all that came along with the head is checked."""
        self._task: asyncio.Task[None] | None = None
        self._on_gone: Callable[[], None] | None = None
        self._reading = Deadline(self.loop)
        """For a head, a body, or a refused client to close."""
        self._writing = Deadline(self.loop)
        """For a client to read."""

    # The connection's beginning and end

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a head."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=HIGH_WATER_LIMIT)
        if peer := transport.get_extra_info("peercert"):  # empty or None unless it was asked for and verified
            self.app_state = {**self.app_state, "tls_peer": peer}
        self.server_state.empty.clear()
        self.flow = self._flow = HeardFlow(transport, self.server_state.hangups)
        self._reading.start(self.options.head_timeout, self._head_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the running request."""
        super().connection_lost(exc)
        self._tell_gone()
        self._unset_keepalive_if_required()
        self._reading.stop()
        self._writing.stop()
        self._flow.forget()
        if self.place is not None:
            self.place.give_back()
        if not self.connections:
            self.server_state.empty.set()

    def eof_received(self) -> None:
        """A client that closes its side has gone, even where an answer to it is stuck in our buffer."""
        if self._running():
            self.transport.abort()

    def shutdown(self) -> None:
        """Close when idle; otherwise after the answer."""
        if not self.transport.is_closing():  # asyncio's TLS transport must not be closed twice
            super().shutdown()
        self._flush_in_time()

    def idle_since(self) -> float | None:
        """Return the loop's time since which nothing runs here; None while it does, or where it makes way already."""
        if self._running() or self.transport.is_closing():
            return None
        if self.timeout_keep_alive_task is not None:
            return self.timeout_keep_alive_task.when() - self.options.keep_alive
        seconds = LINGER_SECONDS if self._phase is _LINGER else self.options.head_timeout
        return None if self._reading.due is None else self._reading.due - seconds

    def make_way(self) -> None:
        """Close at once, for somebody else's sake; for connections that are idle."""
        if self.place is not None:
            self.place.give_back()
        self.transport.abort()

    def cut(self) -> None:
        """End the running request: the time to drain is up."""
        if self._task is not None and self._running():
            self._say_why(ShuttingDown())
            self._task.cancel("shutdown")
        else:
            self.transport.abort()

    # Reading

    def data_received(self, data: bytes) -> None:
        """Take what arrived, as the phase demands."""
        if self._phase is _HEAD:
            self._read_head(data)
        elif self._phase is _BODY:
            self._read_body(data)
        elif self._phase is _ANSWER:
            self._kept += data
            if len(self._kept) > KEPT_BYTES:
                self._say_why(Refused(400, "too much came behind the request", code=codes.PIPELINE_OVERFLOW))
                self.transport.abort()

    def _read_head(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            whole = self._head.take(data)
        except Refused as refused:
            self._refuse(refused)
            return
        if whole is None:
            self._reading.start(self.options.head_timeout, self._head_late)
        else:
            self._reading.stop()
            self._open_request(*whole)

    def _open_request(self, head: request_rules.Head, rest: bytes) -> None:
        """Parse one whole head and what came with it; start the application if nothing is wrong with either."""
        self._version, self._hosts = head.version, head.hosts
        self._refusal, self._governed, self._body_moved = None, [], False
        if not self._parse(head.data):
            return
        if rest:
            self.data_received(rest)
        if self._waiting_app is not None and not self.transport.is_closing():
            self._start(self._waiting_app)
            if self._phase is _BODY:
                self._reading.start(self.options.body_timeout, self._body_late)

    def _read_body(self, data: bytes) -> None:
        self._body_moved = True
        if self._length is None:
            self._read_chunked(data)
            return
        rest = data[self._length :]
        if rest:
            data = data[: self._length]
        self._length -= len(data)
        if self._parse(data) and rest:
            self.data_received(rest)

    def _read_chunked(self, data: bytes) -> None:
        read = 0
        for piece in request_rules.pieces(data):
            read += len(piece)
            self._overhead += len(piece)
            if not self._parse(piece):
                return
            if self._phase is not _BODY:
                if read < len(data):
                    self.data_received(data[read:])
                return
        if self._overhead > self.options.head_bytes:
            self._refuse(Refused(400, "too much between the chunks of the body", code=codes.BAD_CHUNK_OVERHEAD))

    def _parse(self, data: bytes) -> bool:
        """Feed llhttp, which calls the methods below; return whether what it saw can be served."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # We offer no other protocol, so Upgrade is ignored (RFC 9110 section 7.8). llhttp would ignore the body
            # instead, and take it for the next request; it sees the head again, without the field.
            head = request_rules.without_upgrade(data)
            if head != data:
                self.parser = httptools.HttpRequestParser(self)
                self._governed = []
                return self._parse(head)
            self._refusal = Refused(400, "the Upgrade field is malformed", code=codes.MALFORMED_REQUEST)
        except httptools.HttpParserError:
            self._refusal = self._refusal or Refused(400, "the request is malformed", code=codes.MALFORMED_REQUEST)
        if self._refusal is not None:
            self._refuse(self._refusal)
            return False
        return True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one field, of the head or of the trailers."""
        name = name.lower()
        if name in request_rules.GOVERNED:
            self._governed.append((name, value))
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Make a request of a head that obeys the rules."""
        if self.parser.should_upgrade():
            return
        try:
            self._length = request_rules.check_fields(self._governed, self._version, self._hosts)
        except Refused as refused:
            self._refusal = refused
            return
        if self._hosts and not any(name == b"host" for name, _ in self._governed):
            self.headers.append((b"host", self._hosts[0]))
        self._overhead = 0
        super().on_headers_complete()
        self._phase = _BODY
        # What the parser reports from here on are trailers. They go to a list that nobody reads.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """Hand on a part of the body; uvicorn drops it when the answer is out."""
        self._overhead = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._phase is _BODY:
            self._reading.stop()
            self._phase = _HEAD if self.cycle.response_complete else _ANSWER
            super().on_message_complete()

    # Answering

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._waiting_app = app

    def _start(self, app: ASGI3Application) -> None:
        self._waiting_app = self._on_gone = None
        cycle = self.cycle
        cycle.scope["state"][REGISTER] = self._when_gone
        if self._version == b"1.0":
            app = without_chunks(app, cycle)
        else:
            cycle.scope["state"][WRITE] = chunk_writer(cycle)
        self._task = self.loop.create_task(cycle.run_asgi(app))
        self.tasks.add(self._task)
        self._task.add_done_callback(self._finished)

    def on_response_complete(self) -> None:
        """Go on with what the client sent meanwhile."""
        self._on_gone = None  # it leads to the whole request, which must not stay while the connection idles
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self._phase is _ANSWER:
            self._phase = _HEAD
            if self._kept:
                kept, self._kept = bytes(self._kept), bytearray()
                self.data_received(kept)
        elif self._phase is _BODY:
            self._reading.stop()
            if self.expect_100_continue and not self._body_moved:
                # Whether the client will still send its body is anybody's guess.
                self.transport.close()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._flush_in_time()

    # Refusing and timing

    def _refuse(self, refused: Refused) -> None:
        """Answer with an error, never call the application, and close."""
        self.server_state.note_refusal(refused, self.client)
        let_go(refused)
        self._unset_keepalive_if_required()
        self._reading.stop()
        answered = self._phase is _BODY and self.cycle.response_started
        if self._running():
            # Its body turned out bad: the application learns that nobody is there.
            self._say_why(refused)
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.flow.resume_writing()
            self._tell_gone()
        self._phase, self._waiting_app = _LINGER, None
        self._head.clear()
        if answered:
            self.transport.close()
            self._flush_in_time()
            return
        self.transport.write(self.server_state.refusal(refused))
        # To close with input unread would reset the connection, and might take the answer away from the client.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._reading.start(LINGER_SECONDS, self.transport.abort)

    def _running(self) -> bool:
        """Whether an application is at work, or about to be, for a client that is still there."""
        begun = self._phase is _BODY or self._phase is _ANSWER
        return begun and not (self.cycle.response_complete or self.cycle.disconnected)

    def _say_why(self, reason: ProxyError) -> None:
        if self._running():
            self.cycle.scope["state"][REASON] = reason

    def _when_gone(self, callback: Callable[[], None]) -> None:
        self._on_gone = callback
        if self.cycle.disconnected:
            self._tell_gone()

    def _tell_gone(self) -> None:
        callback, self._on_gone = self._on_gone, None
        if callback is not None and not self.cycle.response_complete:
            callback()

    def _head_late(self) -> None:
        if self._head.begun:
            self._refuse(late("the request head did not arrive", "head", self.options.head_timeout))
        else:
            self.transport.close()

    def _body_late(self) -> None:
        ours = self.flow.read_paused or self.cycle.waiting_for_100_continue
        if self._body_moved or ours:
            self._body_moved = False
            self._reading.start(self.options.body_timeout, self._body_late)
        else:
            self._refuse(late("no part of the request body arrived", "body", self.options.body_timeout))

    def pause_writing(self) -> None:
        """Begin to count the time a client does not read."""
        super().pause_writing()
        self._writing.start(self.options.write_timeout, self._write_late)

    def resume_writing(self) -> None:
        """The client read."""
        super().resume_writing()
        self._writing.stop()
        self._flush_in_time()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection."""
        super().timeout_keep_alive_handler()
        self._flush_in_time()

    def _flush_in_time(self) -> None:
        """See to it that a closing connection does not wait forever for a client that does not read its last bytes."""
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._writing.start(self.options.write_timeout, self._write_late)

    def _write_late(self) -> None:
        self._say_why(late("the client read nothing of its answer", "write", self.options.write_timeout))
        self.transport.abort()
