"""One HTTP/1.1 request after another on a connection, with the ways to leave in the middle."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from bench.soak.plan import HOST

PATIENCE: Final = 60.0
"""Seconds for any one step; nothing in a soak takes as long."""
_RESET: Final = struct.pack("ii", 1, 0)


class Broken(Exception):
    """The connection ended before the answer did."""


@dataclass(slots=True)
class Head:
    """The head of an answer; names of fields are lower case."""

    status: int
    fields: dict[str, str] = field(default_factory=dict)


class Wire:
    """One connection of one client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int) -> "Wire":
        """Connect to `port` of this machine."""
        return cls(*await asyncio.open_connection(HOST, port, limit=2**20))

    async def send(self, data: bytes) -> None:
        """Write `data`, and wait while the other side takes nothing."""
        self._writer.write(data)
        async with asyncio.timeout(PATIENCE):
            await self._writer.drain()

    async def head(self) -> Head:
        """Read the head of an answer; raises Broken where none comes."""
        try:
            async with asyncio.timeout(PATIENCE):
                text = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Broken("no answer") from error
        first, *lines = text.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        return Head(int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs})

    async def body(self, head: Head) -> AsyncIterator[bytes]:
        """Yield the body of an answer as it comes; raises Broken where its framing promised more."""
        try:
            if head.fields.get("transfer-encoding") == "chunked":
                while size := int(await self._line(), 16):
                    yield (await self._exactly(size + 2))[:-2]
                await self._line()
            elif length := int(head.fields.get("content-length", "0")):
                yield await self._exactly(length)
        except (asyncio.IncompleteReadError, ConnectionError, ValueError) as error:
            raise Broken("the answer broke off") from error

    async def _line(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return (await self._reader.readuntil(b"\r\n"))[:-2]

    async def _exactly(self, size: int) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self._reader.readexactly(size)

    def leave(self, *, reset: bool) -> None:
        """Hang up, by RST or by FIN, whatever is under way."""
        raw: socket.socket | None = self._writer.get_extra_info("socket")
        if reset and raw is not None:  # it has none any more where the other side broke it
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort() if reset else self._writer.close()


def request(method: str, path: str, *, port: int, body: bytes | None = None, **fields: str) -> bytes:
    """Return the bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {HOST}:{port}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    if body is not None:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")
