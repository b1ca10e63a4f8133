"""A client that sees the wire: exact chunks, and whether an answer ended as HTTP says or was cut."""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Reply:
    """One answer as it stood on the wire.

    Attributes:
        chunks: of a chunked body, each as it was framed; of any other, one.
        clean: the body came to the end its framing promised.
    """

    status: int
    headers: dict[str, str]
    chunks: list[bytes] = field(default_factory=list)
    clean: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


def request(
    method: str, path: str, body: bytes | dict[str, Any] | None = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return the bytes of a request; a dict becomes JSON."""
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    lines = {"Host": "localhost", **(headers or {})}
    if content is not None:
        lines.setdefault("Content-Length", str(len(content)))
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return head.encode() + b"\r\n" + (content or b"")


class Client:
    """One connection to the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, address: tuple[str, int], ssl: ssl.SSLContext | None = None) -> "Client":
        return cls(*await asyncio.open_connection(*address, limit=2**20, ssl=ssl))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read_head(self, timeout: float = 10.0) -> Reply:
        async with asyncio.timeout(timeout):
            head = await self.reader.readuntil(b"\r\n\r\n")
        first, *rest = head[:-4].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        return Reply(int(first.split(" ")[1]), headers)

    async def read_chunk(self, timeout: float = 10.0) -> bytes:
        """Return the next chunk of a chunked body; b"" at its clean end. Raises IncompleteReadError where it is cut."""
        async with asyncio.timeout(timeout):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            return (await self.reader.readexactly(size + 2))[:-2]

    async def read(self, *, bodyless: bool = False, timeout: float = 10.0) -> Reply:
        """Return the whole answer, cut or not."""
        reply = await self.read_head(timeout)
        try:
            if bodyless or reply.status in (204, 304):
                reply.clean = True
            elif "content-length" in reply.headers:
                async with asyncio.timeout(timeout):
                    reply.chunks.append(await self.reader.readexactly(int(reply.headers["content-length"])))
                reply.clean = True
            else:
                while chunk := await self.read_chunk(timeout):
                    reply.chunks.append(chunk)
                reply.clean = True
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        return reply

    def hang_up(self, *, reset: bool = False) -> None:
        """Close by FIN, or by RST."""
        if reset:
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort() if reset else self.writer.close()

    async def close(self) -> None:
        self.writer.close()


async def ask(
    address: tuple[str, int],
    method: str,
    path: str,
    body: bytes | dict[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Make one request on a connection of its own."""
    client = await Client.connect(address)
    try:
        await client.send(request(method, path, body, headers))
        return await client.read(bodyless=method == "HEAD")
    finally:
        await client.close()
