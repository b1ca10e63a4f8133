"""The reading half of a connection: from bytes to requests, bounded and timed, one request at a time.

A connection is in one phase at a time::

    HEAD ──whole head──▶ BODY ──whole body──▶ ANSWER ──answered──▶ HEAD …
      └──────refused──────┴───────▶ LINGER ──▶ closed

Bytes that arrive behind a request (pipelining) are kept, up to `KEPT_BYTES`, and parsed only when the response is out.
So a refusal never lands inside a running response, and the running request is always the one that is told of a
disconnect: reading never stops while it is answered.

A head is collected until it is whole (`head_reader`), checked (`request_rules`), and given to llhttp in one piece: its
cost is linear however it was cut, and its bounds need no count of what a parser holds.
"""

import asyncio
from abc import abstractmethod
from typing import Any, Final, Literal

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Header
from proxy.kernel.errors import ProxyError, Refused
from proxy.server import request_rules
from proxy.server.deadline_timer import Deadline, late
from proxy.server.head_reader import HeadReader
from proxy.server.server_state import GuardState
from proxy.server.websocket_upgrade import Upgrade

KEPT_BYTES: Final = 65_536

Phase = Literal["head", "body", "answer", "linger"]


class RequestReader(HttpToolsProtocol):
    """Reads the requests of one connection; `GuardedProtocol` answers them."""

    server_state: GuardState

    def __init__(
        self,
        config: Config,
        server_state: GuardState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.options = server_state.options
        self._phase: Phase = "head"
        self._version = b"1.1"
        self._hosts: tuple[bytes, ...] = ()
        """The hosts that the target names; see `request_rules.Head`."""
        self._head = HeadReader(self.options.head_bytes, self.options.head_fields)
        self._kept = bytearray()
        """Bytes that arrived behind the request that is answered."""
        self._length: int | None = 0
        """Bytes of the body still to come; None while it is chunked."""
        self._overhead = 0
        """Bytes of chunk sizes, extensions and trailers since the last byte of body."""
        self._body_moved = False
        """A byte of the body came since the last look of the timer."""
        self._governed: list[Header] = []
        """The fields of the head that `request_rules.check_fields` is about."""
        self._refusal: Refused | None = None
        """The mistake that a callback of the parser found."""
        self._waiting_app: ASGI3Application | None = None
        """The application, until all that came along with the head is checked."""
        self._upgrade: Upgrade | None = None
        """What makes a WebSocket of this connection, where the request asks for one and gets it."""
        self._reading = Deadline(self.loop)
        """The time for a head or a body to come, or for a refused client to close."""

    @abstractmethod
    def _start(self, app: ASGI3Application) -> None:
        """Let `app` answer the request that was read."""

    @abstractmethod
    def _refuse(self, refused: Refused) -> None:
        """Answer with an error, never call the application, and close."""

    @abstractmethod
    def _say_why(self, reason: ProxyError) -> None:
        """Note why the running request will be cut off."""

    def data_received(self, data: bytes) -> None:
        """Take what arrived, as the phase demands."""
        if self._phase == "head":
            self._read_head(data)
        elif self._phase == "body":
            self._read_body(data)
        elif self._phase == "answer":
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
        self._refusal, self._governed, self._body_moved, self._upgrade = None, [], False, None
        if not self._parse(head.data):
            return
        if rest:
            self.data_received(rest)
        if self._waiting_app is not None and not self.transport.is_closing():
            self._start(self._waiting_app)
            if self._phase == "body":
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
            if self._phase != "body":
                if read < len(data):
                    self.data_received(data[read:])
                return
        if self._overhead > self.options.head_bytes:
            self._refuse(Refused(400, "too much between the chunks of the body", code=codes.BAD_CHUNK_OVERHEAD))

    def _read_kept(self) -> None:
        """Parse what arrived behind the request that has just been answered."""
        self._phase = "head"
        if self._kept:
            kept, self._kept = bytes(self._kept), bytearray()
            self.data_received(kept)

    def _parse(self, data: bytes) -> bool:
        """Feed llhttp, which calls the methods below; return whether what it saw can be served."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Of other protocols only WebSocket is spoken, and any other Upgrade is ignored (RFC 9110 section 7.8).
            # llhttp would ignore the body instead, and take it for the next request; it sees the head again, without
            # the field.
            options = self.options.websocket
            if options is not None and self._version == b"1.1":
                self._upgrade = Upgrade.wanted(self.parser.get_method(), self.headers, options)
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

    # The parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one field of the head or of the trailers."""
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
        self._phase = "body"
        # The fields that the parser reports from here on are trailers. They go to a list that nobody reads.
        self.headers = []

    def _start_asgi_task(self, cycle: object, app: ASGI3Application) -> None:
        """Keep the application waiting, where uvicorn would start it: the body may turn out bad in the same read."""
        self._waiting_app = app

    def on_body(self, body: bytes) -> None:
        """Hand on a part of the body; uvicorn drops it when the response is out."""
        self._overhead = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        if self._phase == "body":
            self._reading.stop()
            self._phase = "head" if self.cycle.response_complete else "answer"
            super().on_message_complete()

    # The clock calls

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
