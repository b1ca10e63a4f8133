"""HTTP/1.1 on one connection: bytes in, requests out, and the client's leaving noticed at once.

Requests of one connection are answered one after the other, pipelined ones wait.
"""

import asyncio
from collections import deque
from typing import Final, Protocol

import httptools

from proxy.simulator.client_socket import ClientSocket
from proxy.simulator.host import Host
from proxy.simulator.http_parser import RequestParser
from proxy.simulator.request import Request

BODY_WINDOW: Final = 256 * 1024  # bytes of an upload that may wait to be taken before reading pauses
PIPELINE_LIMIT: Final = 16
LINGER_AFTER_EARLY_ANSWER: Final = 0.5  # Go's rstAvoidanceDelay: unread body, answer sent, then the hard close

_REFUSAL = (
    b"HTTP/1.1 %b\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n%b"  # as net/http writes it
)


class Service(Protocol):
    """Answers the requests of connections."""

    def opened(self, connection: "Connection") -> float:
        """Note a new connection; return the seconds for which it is not to be read."""

    def closed(self, connection: "Connection") -> None:
        """Note that a connection is closed for good."""

    def arrived(
        self, connection: "Connection", method: str, target: bytes, headers: list[tuple[bytes, bytes]]
    ) -> Request:
        """Return the request of a head that is complete."""

    async def serve(self, connection: "Connection", request: Request) -> bool:
        """Answer a request; return whether the connection goes on."""


class Connection(ClientSocket):
    """Reads requests of one client, and has them answered."""

    def __init__(self, host: Host, service: Service, number: int) -> None:
        super().__init__(host, number)
        self._service = service
        self._parser = RequestParser(self)
        self._tls = False
        self._pending: deque[Request] = deque()
        self._active: Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._refusal: bytes | None = None
        self._last = False  # no request after the one in hand
        self._early: list[bytes] | None = None  # bytes that came before a slow accept is over

    def __repr__(self) -> str:
        state = "gone" if self.gone else "open"
        return f"<Connection {self.number} {self.peer[0]}:{self.peer[1]} {state} {self._active or 'idle'}>"

    # -- transport ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to read, or wait for as long as a slow accept takes."""
        super().connection_made(transport)
        self._tls = transport.get_extra_info("ssl_object") is not None
        if delay := self._service.opened(self):
            self._early = []
            asyncio.get_running_loop().call_later(delay, self._awake)

    def data_received(self, data: bytes) -> None:
        """Parse bytes, and refuse those that are no HTTP."""
        self.host.counters.bytes_in += len(data)
        if self._early is not None:
            self._early.append(data)
            return
        if self._last or self.held or self._refusal:
            return
        try:
            self._parser.feed(data)
        except httptools.HttpParserUpgrade:
            self._last = True  # Go ignores Upgrade; the parser cannot go on behind it
        except httptools.HttpParserCallbackError as error:
            self.host.broken(error.__context__ or error)
            self.reset()
        except httptools.HttpParserError:
            self.refuse(b"400 Bad Request", b"400 Bad Request")
        if len(self._pending) > PIPELINE_LIMIT:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """Note that the client has closed its side; stay open while a request is in hand, whose end then closes."""
        # Go takes a FIN for the client's leaving, even where the client still reads.
        self._leave()
        return not self._tls and self._task is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone."""
        self._leave()
        self.resume_writing()
        self._service.closed(self)

    def cancel(self) -> "asyncio.Task[None] | None":
        """Cancel the request in hand and return its task, for the simulator's stop."""
        if self._task:
            self._task.cancel()
        return self._task

    # -- what the parser calls ---------------------------------------------------------------------------------------

    @property
    def refused(self) -> bool:
        """Return whether a request was refused, so that nothing behind it is taken."""
        return self._refusal is not None

    def begin(self, method: str, target: bytes, headers: list[tuple[bytes, bytes]]) -> Request:
        """Return the request of a head that is complete."""
        return self._service.arrived(self, method, target, headers)

    def take(self, request: Request) -> None:
        """Serve a request, or have it wait for its turn."""
        request.on_read = self._wanted if request.all("expect") or request.streamed else None
        self._pending.append(request)
        self._next()

    def body_grew(self, request: Request) -> None:
        """Stop reading an upload of which too much waits to be taken."""
        if request.streamed and request.unread > BODY_WINDOW:
            self.transport.pause_reading()
        self.host.changed()

    def refuse(self, status: bytes, text: bytes) -> None:
        """Answer with an error of net/http once the requests before are answered, and close."""
        self._refusal = _REFUSAL % (status, text)
        if self._parser.incoming is not None:
            self._parser.incoming.finish(lost=True)
        self._next()

    # -- turns -------------------------------------------------------------------------------------------------------

    def _next(self) -> None:
        """Serve the next request, or answer the one that could not be parsed, or close."""
        if self._task is not None or self.transport.is_closing():
            return
        if self._pending:
            self._active = self._pending.popleft()
            self._task = asyncio.get_running_loop().create_task(self._serve(self._active))
        elif self._refusal:
            self.write(self._refusal)
            self.close()
        elif self.gone or (self._last and not self.held):
            self.close()

    async def _serve(self, request: Request) -> None:
        keep = False
        try:
            keep = await self._service.serve(self, request)
        finally:
            self._task = self._active = None
            if self.held or self.transport.is_closing():
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
            self.host.abandoned(waiting)
        self._pending.clear()
        request = self._active
        if request and not request.complete:
            request.finish(lost=True)
        if self._task is None:
            self._next()
        elif request and request.complete and self._notices_at_once(request):
            self._task.cancel()
        self.host.changed()

    def _notices_at_once(self, request: Request) -> bool:
        # Go watches the connection only once the body was read to its end, and a decoder that has its JSON value
        # does not ask for the last chunk; such a request notices the close when it writes.
        return self.host.settings.cancel == "at_once" and not request.chunked

    def _awake(self) -> None:
        """End a slow accept."""
        early, self._early = self._early or [], None
        if early and not self.gone:
            self.host.counters.bytes_in -= sum(map(len, early))
            self.data_received(b"".join(early))

    def _wanted(self) -> None:
        """Let the client send the body, which is being read now; answer ``100 Continue`` to a client that asked."""
        request = self._active
        if request and not request.body_bytes and request.header("expect") == b"100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._resume()

    def _resume(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()
