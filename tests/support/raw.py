"""A client that sends any bytes, and an application that notes what reached it."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from proxy.kernel.asgi import Header, Message, Receive, Scope, Send
from proxy.kernel.server_extensions import gone_because

PATIENCE = 10.0
"""Seconds after which a test has failed that waits for something to happen."""


@dataclass
class Seen:
    """One request as the application saw it."""

    scope: Scope
    body: bytes = b""
    complete: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the application was told that the client has gone."""
    cancelled: bool = False

    @property
    def dropped(self) -> str | None:
        """The code of why the server hung up; None where the client did."""
        reason = gone_because(self.scope)
        return None if reason is None else reason.code

    @property
    def target(self) -> bytes:
        query: bytes = self.scope["query_string"]
        path: bytes = self.scope["raw_path"]
        return path + b"?" + query if query else path

    def header(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.scope["headers"] if key == name]


Handler = Callable[["Seen", Receive, Send], Awaitable[None]]


class Recorder:
    """Notes each request, and lets `handler` answer it; by default with 200 and what it received."""

    def __init__(self, handler: Handler | None = None) -> None:
        self.seen: list[Seen] = []
        self.arrived: asyncio.Queue[Seen] = asyncio.Queue()
        self._handler = handler or echo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        seen = Seen(scope)
        self.seen.append(seen)
        self.arrived.put_nowait(seen)

        async def noting() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                seen.gone.set()
            else:
                seen.body += message["body"]
                seen.complete = not message["more_body"]
            return message

        try:
            await self._handler(seen, noting, send)
        except asyncio.CancelledError:
            seen.cancelled = True
            raise

    async def next(self) -> Seen:
        """Wait for the next request."""
        async with asyncio.timeout(PATIENCE):
            return await self.arrived.get()


async def read_body(seen: Seen, receive: Receive) -> bool:
    """Read the body to its end; return whether it came."""
    while not seen.complete and not seen.gone.is_set():
        await receive()
    return seen.complete


async def echo(seen: Seen, receive: Receive, send: Send) -> None:
    """Answer with method, target and body."""
    if await read_body(seen, receive):
        await reply(send, b"%s %s %s" % (seen.scope["method"].encode(), seen.target, seen.body))


async def reply(send: Send, body: bytes, status: int = 200, headers: tuple[Header, ...] = ()) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def wait_for_disconnect(seen: Seen, receive: Receive, send: Send) -> None:
    """Read the body, then wait until the client has gone."""
    while not seen.gone.is_set():
        await receive()


@dataclass
class Response:
    """One response as it was on the wire."""

    status: int
    headers: list[Header]
    body: bytes
    whole: bool
    """Whether the body came to the end its framing announced."""

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)


class Raw:
    """One connection, byte by byte."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._read = b""
        self.closed = False
        """Whether the server has closed or reset the connection."""
        self.was_reset = False

    @classmethod
    async def open(cls, address: str, *, receive_buffer: int | None = None) -> Self:
        """Connect to `address`, in the notation of `ServerOptions.listen`."""
        loop = asyncio.get_running_loop()
        if address.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX)
            target: str | tuple[str, int] = address.removeprefix("unix:")
        else:
            host, _, port = address.rpartition(":")
            sock = socket.socket(socket.AF_INET6 if host.startswith("[") else socket.AF_INET)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            target = (host.strip("[]"), int(port))
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, target)
        except OSError:
            sock.close()
            raise
        return cls(sock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sock.close()

    async def send(self, data: bytes) -> None:
        """Send all of `data`; what the server refuses to take is lost."""
        with suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def send_bytewise(self, data: bytes) -> None:
        for at in range(len(data)):
            await self.send(data[at : at + 1])
            await asyncio.sleep(0)

    async def more(self) -> bool:
        """Read once; return whether anything came before the end."""
        try:
            async with asyncio.timeout(PATIENCE):
                data = await asyncio.get_running_loop().sock_recv(self.sock, 65_536)
        except ConnectionError:
            data = b""
            self.was_reset = True
        self._read += data
        self.closed = not data
        return bool(data)

    async def rest(self) -> bytes:
        """Read to the end of the connection."""
        while await self.more():
            pass
        rest, self._read = self._read, b""
        return rest

    async def until(self, mark: bytes) -> bytes:
        """Read up to and including `mark`; what comes before the end if it never does."""
        while mark not in self._read and await self.more():
            pass
        found, separator, self._read = self._read.partition(mark)
        return found + separator

    async def response(self, method: bytes = b"GET") -> Response:
        """Read one response."""
        head = await self.until(b"\r\n\r\n")
        status_line, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        fields = [line.partition(b": ") for line in lines]
        answer = Response(int(status_line.split(b" ")[1]), [(name, value) for name, _, value in fields], b"", True)
        length = answer.header(b"content-length")
        if method == b"HEAD" or answer.status in (204, 304):
            return answer
        if answer.header(b"transfer-encoding") == b"chunked":
            while True:
                size = await self.until(b"\r\n")
                if not size.endswith(b"\r\n"):
                    answer.whole = False
                    return answer
                count = int(size, 16) + 2
                chunk = await self.exactly(count)
                answer.body += chunk[: count - 2]
                if count == 2:
                    return answer
        elif length is not None:
            answer.body = await self.exactly(int(length))
            answer.whole = len(answer.body) == int(length)
        else:
            answer.body = await self.rest()
        return answer

    async def exactly(self, count: int) -> bytes:
        while len(self._read) < count and await self.more():
            pass
        data, self._read = self._read[:count], self._read[count:]
        return data

    def finish(self) -> None:
        """Close our side only (FIN)."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with a reset (RST)."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
