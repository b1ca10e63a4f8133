"""A backend that does what a script says, byte by byte, on a real socket."""

import asyncio
import os
import select
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 10.0
"""Seconds after which a test has failed that waits for something to happen."""


class Peer:
    """The backend's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        """Read one request head."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> bytes:
        """Read one request; return it as it was on the wire."""
        head = await self.head()
        lines = head.lower().split(b"\r\n")
        if b"transfer-encoding: chunked" in lines:
            return head + await self.reader.readuntil(b"0\r\n\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        return head + await self.reader.readexactly(length)

    async def send(self, *data: bytes) -> None:
        """Write pieces, each a segment of its own as far as the kernel allows."""
        for piece in data:
            if self.writer.transport.is_closing():  # uvloop would call this a bug of ours
                raise ConnectionResetError("the other side has gone")
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def gone(self) -> None:
        """Read on until the other side has closed or reset the connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self.reader.read(2**16):
                pass

    def finish(self) -> None:
        """Send FIN; what comes is still read. Not with TLS."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Close with RST."""
        sock = self.writer.get_extra_info("socket")
        if sock is not None:  # else it is closed
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class Backend:
    """A running backend."""

    url: str
    peers: list[Peer] = field(default_factory=list)
    scripts: set[asyncio.Task[None]] = field(default_factory=set)
    """Those that run: one for each connection that was not closed yet."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds, which only a connection that comes or goes can bring about."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def all_gone(self) -> None:
        """Wait until every script has ended and every connection is closed."""
        await self.until(lambda: not self.scripts)


def reply(body: bytes = b"ok", *fields: bytes, status: bytes = b"200 OK") -> bytes:
    """Return a response with Content-Length."""
    lines = [b"HTTP/1.1 " + status, *fields, b"Content-Length: %d" % len(body), b"", body]
    return b"\r\n".join(lines)


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """Return a chunked response."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def always(response: bytes) -> Script:
    """Return a script that answers every request with `response`."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(response)

    return script


def once(*pieces: bytes) -> Script:
    """Return a script that answers one request with `pieces` and waits for the other side to close."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)
        await peer.gone()

    return script


@asynccontextmanager
async def backend(
    script: Script,
    *,
    tls: ssl.SSLContext | None = None,
    uds: Path | None = None,
    host: str = "127.0.0.1",
    limit: int = 2**24,
) -> AsyncIterator[Backend]:
    """Run `script` for each connection, and close it when the script ends.

    Twice `limit` bytes are read ahead of the script. It may end by reading from a connection that the other side
    closed; any other exception fails the test.
    """
    scheme = "http" if tls is None else "https"
    running = Backend(f"{scheme}://localhost")
    failures: list[Exception] = []

    async def serve(peer: Peer) -> None:
        try:
            await script(peer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        except Exception as error:
            failures.append(error)
        finally:
            peer.writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await peer.writer.wait_closed()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        task = asyncio.get_running_loop().create_task(serve(peer))
        running.peers.append(peer)
        running.scripts.add(task)
        task.add_done_callback(ended)
        running._changed.set()

    def ended(task: asyncio.Task[None]) -> None:
        running.scripts.discard(task)
        running._changed.set()

    if uds is None:
        server = await asyncio.start_server(connected, host, 0, ssl=tls, limit=limit)
        port = server.sockets[0].getsockname()[1]
        running.url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    else:
        server = await asyncio.start_unix_server(connected, str(uds), ssl=tls, limit=limit)
    try:
        yield running
    finally:
        server.close()
        for peer in running.peers:
            peer.writer.transport.abort()
        for task in list(running.scripts):
            task.cancel()
        await asyncio.gather(*running.scripts, return_exceptions=True)
        await server.wait_closed()
    if failures:
        raise failures[0]


@asynccontextmanager
async def black_hole() -> AsyncIterator[str]:
    """Give the URL of a host that takes no connection and refuses none: its queue of them is full."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        while True:
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            if not select.select([], [filler], [], 0.05)[1]:  # what can be connected locally is, at once
                break
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something inside of this process that gives no sign when it happens."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)  # nothing would set an event


def open_sockets() -> int:
    """Return how many sockets this process has open."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
    return count


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """See that the block leaves no socket and no task behind."""
    before = open_sockets(), len(asyncio.all_tasks())
    yield
    await eventually(lambda: open_sockets() <= before[0] and len(asyncio.all_tasks()) <= before[1])
