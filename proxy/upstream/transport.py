"""HTTP/1.1 to one backend: `httpx.AsyncBaseTransport` on httptools and asyncio protocols, with a keep-alive pool.

It exists because httpx's own transport costs several times as much per chunk, does not keep chunk boundaries, and
cannot tell its time-outs apart. It is called directly, not through `httpx.AsyncClient`, and can be swapped for
`httpx.AsyncHTTPTransport`. Its parts, from the outside in:

* `Transport`, here: chooses the connection for a request, and bounds their number
* `request_bytes.encode`: an `httpx.Request` → the bytes to write
* `connection.Connection`: one socket, one request after the other, and their timers
* `parser.AnswerParser`: bytes → head and items
* `answer.Answer`: items → their reader

What it raises are httpx's exceptions; `proxy.upstream.failures` turns them into the project's own errors.
"""

import asyncio
import math
import ssl
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import httpx

from proxy.upstream.connection import Bounds, Connection
from proxy.upstream.connector import Connector
from proxy.upstream.failures import (
    ConnectTimedOut,
    Disconnected,
    NoConnectionFree,
    NotConnected,
)
from proxy.upstream.request_bytes import encode
from proxy.upstream.timeouts import Timeouts


class _Waiter(NamedTuple):
    """A request that waits for a connection: one at rest, or one that it may connect itself."""

    future: asyncio.Future[Connection]
    fresh: bool


class Transport(httpx.AsyncBaseTransport):
    """Connections to one backend.

    `handle_async_request` reads these of a request's extensions:

    * ``target``: the request target, as bytes; that of the URL if it is missing
    * ``timeout``: `Timeouts`, or httpx's mapping of ``connect``, ``read`` and ``write`` to seconds
    * ``fresh``: True for a connection that has served no request, as one that must not be repeated needs

    and sets these of the response: ``http_version``, ``framing`` (``length``, ``chunked``, ``close``, ``none``) and
    ``reused``. Host and port of a request's URL are not looked at: there is only this backend.

    Args:
        url: the backend's origin, ``http`` or ``https``.
        tls: the context for ``https``; `tls_context` without options if left out.
        server_name: the name to ask for (SNI) and to find in the certificate, instead of the URL's host.
        uds: path of a unix socket to connect to, instead of the URL's host and port.
        max_idle: how many connections are kept without a request.
        idle_expiry: seconds after which one of those is closed.
        max_connections: bound of the sockets open at any time; requests beyond it wait, first come first served.
        head_bytes: bound of a response head, and of what frames and trails a body.
        head_fields: bound of the number of header fields.
    """

    def __init__(
        self,
        url: str | httpx.URL,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        uds: str | None = None,
        max_idle: int = 128,
        idle_expiry: float = 30.0,
        max_connections: int | None = None,
        head_bytes: int = 64 * 1024,
        head_fields: int = 100,
    ) -> None:
        self._connector = Connector(httpx.URL(url), tls=tls, server_name=server_name, uds=uds)
        self._bounds = Bounds(head_bytes, head_fields, idle_expiry)
        self._max_idle = max_idle
        self._max_connections = math.inf if max_connections is None else max_connections

        self._connections: set[Connection] = set()  # to be connected, connecting, in use and idle: what is bounded
        self._connecting: dict[Connection, asyncio.Timeout] = {}
        self._idle: list[Connection] = []  # last in, first out
        self._waiting: deque[_Waiter] = deque()
        self._gone: asyncio.Future[None] | None = None  # made by aclose, done when no connection is left
        self.on_hung_up: Callable[[], None] | None = None
        """Called when the backend closed a connection that nobody used: it may have died."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`; return the response as soon as its head is in, with an `Answer` as its stream.

        The stream is to be read to its end or closed. Cancelling closes the connection.

        Raises:
            TransportFailure: see `proxy.upstream.failures`; each of them is an httpx exception as well.
            Exception: what the iterator of a streamed request body raised, unchanged.
        """
        outgoing = encode(request)
        timeouts = Timeouts.of(request.extensions.get("timeout"))
        connection = await self._acquire(timeouts.connect, fresh=request.extensions.get("fresh", False))
        answer = await connection.exchange(outgoing, timeouts)
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=answer,
            extensions={"http_version": answer.version, "framing": answer.framing, "reused": answer.reused},
        )

    async def aclose(self) -> None:
        """Close all connections at once, whatever is under way; return when the sockets are closed."""
        self._gone = self._gone or asyncio.get_running_loop().create_future()
        for attempt in self._connecting.values():
            attempt.reschedule(0)
        for connection in list(self._connections):
            connection.abort(
                Disconnected(
                    f"the transport to {self._connector} was closed",
                    public="the backend was taken out of use",
                    sent=True,
                )
            )
        while waiter := self._first_waiter():
            self._waiting.popleft()
            waiter.future.set_exception(self._refusal())
        if not self._connections and not self._gone.done():
            self._gone.set_result(None)
        await asyncio.shield(self._gone)

    # Counts

    @property
    def open(self) -> int:
        """The number of connections, those that are being made included."""
        return len(self._connections)

    @property
    def idle(self) -> int:
        """The number of connections kept for the next request."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """The number of requests that wait for a connection."""
        return len(self._waiting)

    @property
    def heard(self) -> float:
        """The loop's time at which bytes came last on one of the open connections; -inf where none came."""
        heard = [connection.heard for connection in self._connections if connection.heard > connection.made]
        return max(heard, default=-math.inf)

    def __repr__(self) -> str:
        connecting = len(self._connecting)
        in_use = self.open - self.idle - connecting
        closed = " closed" if self._gone else ""
        return (
            f"<Transport {self._connector}{closed}: {in_use} in use, {self.idle} idle, {connecting} connecting, "
            f"{self.waiting} waiting>"
        )

    # Choosing a connection

    async def _acquire(self, seconds: float, *, fresh: bool) -> Connection:
        while True:
            while self._idle and not fresh:
                connection = self._idle.pop()
                if not connection.closed:
                    return connection
            if len(self._connections) < self._max_connections:
                connection = self._reserve()
            else:
                if self._idle:
                    self._idle.pop(0).abort()  # and its place goes to the one who waits longest
                connection = await self._wait(seconds, fresh)
            if not connection.connected:
                await self._connect(connection, seconds)
                return connection
            if not connection.closed:
                return connection

    def _reserve(self) -> Connection:
        connection = Connection(self, self._bounds, asyncio.get_running_loop())
        self._connections.add(connection)
        return connection

    async def _wait(self, seconds: float, fresh: bool) -> Connection:
        waiter = _Waiter(asyncio.get_running_loop().create_future(), fresh)
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(_finite(seconds)):
                return await waiter.future
        except BaseException as error:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif not waiter.future.cancelled() and waiter.future.exception() is None:
                self._give_back(waiter.future.result())  # it came while we were being cancelled
            if isinstance(error, TimeoutError):
                raise NoConnectionFree(
                    f"no connection to {self._connector} was free for {seconds:g} s",
                    public=f"no connection to the backend was free for {seconds:g} s",
                ) from None
            raise

    def _first_waiter(self) -> _Waiter | None:
        while self._waiting and self._waiting[0].future.done():  # cancelled
            self._waiting.popleft()
        return self._waiting[0] if self._waiting else None

    def _give_back(self, connection: Connection) -> None:
        if connection.connected:
            self.release(connection)
        else:
            self.lost(connection)

    def release(self, connection: Connection) -> None:
        """Give `connection`, which is idle, to the request that waits longest, or keep it."""
        if connection.closed:
            return  # `lost` follows
        waiter = self._first_waiter()
        if waiter is None:
            self._idle.append(connection)
            if len(self._idle) > self._max_idle:
                self._idle.pop(0).abort()
        elif waiter.fresh:
            connection.abort()  # `lost` follows, and its place goes to the waiter
        else:
            self._waiting.popleft()
            waiter.future.set_result(connection)

    def lost(self, connection: Connection) -> None:
        """Give the place of `connection`, which has no socket, to the request that waits longest; may run twice."""
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if connection.hung_up and self.on_hung_up is not None:
            self.on_hung_up()
        if waiter := self._first_waiter():
            self._waiting.popleft()
            waiter.future.set_result(self._reserve())
        elif self._gone and not self._connections and not self._gone.done():
            self._gone.set_result(None)

    async def _connect(self, connection: Connection, seconds: float) -> None:
        try:
            if self._gone:
                raise self._refusal()
            async with asyncio.timeout(_finite(seconds)) as self._connecting[connection]:
                await self._connector.connect(connection, _finite(seconds))
            if connection.closed:
                raise NotConnected(
                    f"{self._connector} closed the connection at once",
                    public="the backend closed the connection at once",
                )
        except BaseException as error:
            connection.abort()
            self.lost(connection)
            if self._gone and isinstance(error, TimeoutError):
                raise self._refusal() from None
            if isinstance(error, TimeoutError):
                within = "" if seconds == math.inf else f" within {seconds:g} s"
                raise ConnectTimedOut(
                    f"no connection to {self._connector}{within}", public=f"no connection to the backend{within}"
                ) from error
            raise
        finally:
            self._connecting.pop(connection, None)

    def _refusal(self) -> NotConnected:
        return NotConnected(f"the transport to {self._connector} is closed", public="the backend was taken out of use")


def _finite(seconds: float) -> float | None:
    """Return `seconds` as asyncio takes them: None for never."""
    return None if seconds == math.inf else seconds
