"""HTTP/1.1 on one connection: bytes in, requests out, and the client's leaving noticed at once.

Parsing is httptools'. Requests of one connection are answered one after the other, pipelined ones wait.
"""

import asyncio
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

import httptools

from proxy.simulator.records import ClientGone, Request

if TYPE_CHECKING:
    from proxy.simulator.server import Ollama

HEAD_LIMIT: Final = (1 << 20) + 4096  # Go's DefaultMaxHeaderBytes and its slack
BODY_WINDOW: Final = 256 * 1024  # so much of an upload may wait to be taken before reading pauses
PIPELINE_LIMIT: Final = 16
LINGER_AFTER_EARLY_ANSWER: Final = 0.5  # Go's rstAvoidanceDelay: unread body, answer sent, then the hard close

_REFUSAL = (
    b"HTTP/1.1 %b\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n%b"  # as net/http writes it
)


class Connection(asyncio.Protocol):
    """One client. `gone` is set as soon as it has closed, in either direction."""

    def __init__(self, sim: "Ollama", number: int) -> None:
        self.sim = sim
        self.number = number
        self.gone = False
        self.paused = False
        self.peer: tuple[str, int] = ("", 0)
        self.transport: asyncio.Transport
        self._parser: Any = None
        self._tls = False
        self._pending: deque[Request] = deque()
        self._active: Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._incoming: Request | None = None
        self._refusal: bytes | None = None
        self._last = False  # no request after the one in hand
        self._held = False
        self._early: list[bytes] | None = None  # what came before a slow accept is over
        self._resumed: asyncio.Future[None] | None = None
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0

    def __repr__(self) -> str:
        state = "gone" if self.gone else "open"
        return f"<Connection {self.number} {self.peer[0]}:{self.peer[1]} {state} {self._active or 'idle'}>"

    # -- transport ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self.transport = cast(asyncio.Transport, transport)
        self._tls = transport.get_extra_info("ssl_object") is not None
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.peer = (peer[0], peer[1])
            self.raw_socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._parser = httptools.HttpRequestParser(self)
        if delay := self.sim.opened(self):
            self._early = []
            asyncio.get_running_loop().call_later(delay, self._awake)

    def data_received(self, data: bytes) -> None:
        """Bytes came in."""
        self.sim.counters.bytes_in += len(data)
        if self._early is not None:
            self._early.append(data)
            return
        if self._last or self._refusal:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._last = True  # Go ignores Upgrade; the parser cannot go on behind it
        except httptools.HttpParserCallbackError as error:
            self.sim.broken(error.__context__ or error)
            self.reset()
        except httptools.HttpParserError:
            self._refuse(b"400 Bad Request", b"400 Bad Request")
        if len(self._pending) > PIPELINE_LIMIT:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """The client has closed its side; stay open while a request is in hand, whose end then closes."""
        # Go takes a FIN for the client's leaving, even where the client still reads.
        self._leave()
        return not self._tls and self._task is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._leave()
        self.resume_writing()
        self.sim.closed(self)

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        self.paused = True
        self.sim.changed()

    def resume_writing(self) -> None:
        """It has caught up."""
        self.paused = False
        if self._resumed and not self._resumed.done():
            self._resumed.set_result(None)

    # -- parser ------------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request line begins."""
        self._target = b""
        self._fields = []
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._target += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field."""
        if self._incoming is None:  # else a trailer, which Go keeps apart
            self._fields.append((name, value))
            self._count(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        """The head is whole: serve it, or have it wait its turn."""
        hosts = [value for name, value in self._fields if name.lower() == b"host"]
        if self._refusal:
            return
        if len(hosts) > 1:
            self._refuse(b"400 Bad Request", b"400 Bad Request: too many Host headers")
        elif not hosts and self._parser.get_http_version() == "1.1":
            self._refuse(b"400 Bad Request", b"400 Bad Request: missing required Host header")
        else:
            request = self.sim.arrived(self, self._parser.get_method().decode(), self._target, self._fields)
            request.version = self._parser.get_http_version()
            request.keep_alive = self._parser.should_keep_alive()
            request.chunked = any(b"chunked" in value.lower() for value in request.all("transfer-encoding"))
            request.on_read = self._wanted if request.all("expect") or request.streamed else None
            self._incoming = request
            self._pending.append(request)
            self._next()

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        if (request := self._incoming) is not None:
            request.feed(data)
            if request.streamed and request.unread > BODY_WINDOW:
                self.transport.pause_reading()
            self.sim.changed()

    def on_message_complete(self) -> None:
        """The body has ended."""
        request, self._incoming = self._incoming, None
        if request is not None:
            request.finish()

    # -- what replies use --------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Write at once, in one call."""
        self.sim.counters.bytes_out += len(data)
        self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the client has read enough."""
        while self.paused and not self.gone:
            self._resumed = asyncio.get_running_loop().create_future()
            try:
                await self._resumed
            finally:
                self._resumed = None

    async def flush(self) -> None:
        """Wait until the kernel has every byte that was written."""
        self.transport.set_write_buffer_limits(high=0)
        await self.drain()
        if not self.gone:
            self.transport.set_write_buffer_limits()

    def check(self) -> None:
        """Raise `ClientGone` when the client has closed."""
        if self.gone:
            raise ClientGone

    def hold(self) -> None:
        """Neither answer nor read anything more, but stay open until the client goes."""
        self._last = self._held = True

    def reset(self) -> None:
        """Close with RST (a plain close on a unix socket, which has none)."""
        if self.transport.get_extra_info("peername") and self.peer[1]:
            self.raw_socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def close(self) -> None:
        """Close with FIN once everything is written."""
        self.transport.close()

    def raw_socket(self) -> socket.socket:
        """Return the socket below asyncio, for its options only."""
        return cast(socket.socket, self.transport.get_extra_info("socket"))

    def cancel(self) -> "asyncio.Task[None] | None":
        """Cancel the request in hand and return its task, for the simulator's stop."""
        if self._task:
            self._task.cancel()
        return self._task

    # -- inner -------------------------------------------------------------------------------------------------------

    def _next(self) -> None:
        """Begin with the next request, or answer the one that could not be parsed, or close."""
        if self._task is not None or self.transport.is_closing():
            return
        if self._pending:
            self._active = self._pending.popleft()
            self._task = asyncio.get_running_loop().create_task(self._serve(self._active))
        elif self._refusal:
            self.write(self._refusal)
            self.close()
        elif (self.gone or self._last) and not (self._held and not self.gone):
            self.close()

    async def _serve(self, request: Request) -> None:
        keep = False
        try:
            keep = await self.sim.serve(self, request)
        finally:
            self._task = self._active = None
            if self._held or self.transport.is_closing():
                pass
            elif self._refusal and request.status is None:
                self._next()
            elif keep:
                self._resume()
                asyncio.get_running_loop().call_soon(self._next)
            else:
                self._end(request)

    def _end(self, request: Request) -> None:
        """Close behind an answer; when the client is still sending, only our side first, lest RST eat the answer."""
        if self.gone or request.complete or self._tls:
            self.close()
            return
        self._last = True
        self.transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_AFTER_EARLY_ANSWER, self.transport.abort)

    def _leave(self) -> None:
        """Note that the client has closed, and stop working for it."""
        if self.gone:
            return
        self.gone = True
        self.resume_writing()
        for waiting in self._pending:
            self.sim.forsaken(waiting)
        self._pending.clear()
        request = self._active
        if request and not request.complete:
            request.finish(lost=True)
        if self._task is None:
            self._next()
        elif request and request.complete and self._at_once(request):
            self._task.cancel()
        self.sim.changed()

    def _at_once(self, request: Request) -> bool:
        # Go watches the connection only once the body was read to its end, and a decoder that has its JSON value
        # does not ask for the last chunk; such a request notices the close when it writes.
        return self.sim.settings.cancel == "at_once" and not request.chunked

    def _refuse(self, status: bytes, text: bytes) -> None:
        self._refusal = _REFUSAL % (status, text)
        if self._incoming is not None:
            self._incoming.finish(lost=True)
        self._next()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_LIMIT and not self._refusal:
            self._refuse(b"431 Request Header Fields Too Large", b"431 Request Header Fields Too Large")

    def _awake(self) -> None:
        """End a slow accept."""
        early, self._early = self._early or [], None
        if early and not self.gone:
            self.sim.counters.bytes_in -= sum(map(len, early))
            self.data_received(b"".join(early))

    def _wanted(self) -> None:
        """Somebody reads the body: tell a client that asked first, and let it send."""
        request = self._active
        if request and not request.body_bytes and request.header("expect") == b"100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._resume()

    def _resume(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()
