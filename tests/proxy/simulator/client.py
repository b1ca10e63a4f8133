"""A client that writes bytes and sees the wire: heads, exact chunks, and how an answer ended."""

import asyncio
import contextlib
import json
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from proxy.simulator import Ollama

PATIENCE = 5.0

End = Literal["clean", "cut", "reset"]


@dataclass
class Answer:
    """One response. `chunks` are those of a chunked body, or the one of any other; `end` says how it ended."""

    status: int
    fields: list[tuple[str, str]]
    chunks: list[bytes] = field(default_factory=list)
    end: End = "clean"

    @property
    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.fields}

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def json(self) -> Any:
        return json.loads(self.body)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


def encode(method: str, target: str, body: bytes | dict[str, Any] | None = None, *headers: str) -> bytes:
    """Return the bytes of a request; a dict becomes JSON, and Host and Content-Length are added unless given."""
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    lines = list(headers)
    names = {line.partition(":")[0].lower() for line in lines}
    if "host" not in names:
        lines.insert(0, "Host: localhost")
    if content is not None and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(content)}")
    head = "".join(f"{line}\r\n" for line in (f"{method} {target} HTTP/1.1", *lines))
    return head.encode("latin-1") + b"\r\n" + (content or b"")


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, sim: Ollama, **options: Any) -> Self:
        if sim.unix:
            return cls(*await asyncio.open_unix_connection(sim.unix, limit=1 << 22))
        return cls(*await asyncio.open_connection(sim.host, sim.port, limit=1 << 22, **options))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Answer:
        """Read one head."""
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        pairs = [line.partition(":") for line in rest]
        return Answer(int(first.split(" ")[1]), [(name, value.strip()) for name, _, value in pairs])

    async def chunk(self) -> bytes:
        """Read one chunk, the last one being empty."""
        async with asyncio.timeout(PATIENCE):
            size = int((await self.reader.readuntil(b"\r\n")).partition(b";")[0], 16)
            data = await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n" if size else True
            if not size:
                while await self.reader.readuntil(b"\r\n") != b"\r\n":
                    pass
            return data

    async def read(self, method: str = "POST") -> Answer:
        """Read one response to its end, whichever that is."""
        answer = await self.head()
        try:
            if method == "HEAD" or answer.status in (204, 304):
                pass
            elif "content-length" in answer.headers:
                async with asyncio.timeout(PATIENCE):
                    answer.chunks.append(await self.reader.readexactly(int(answer.headers["content-length"])))
            elif "transfer-encoding" in answer.headers:
                while chunk := await self.chunk():
                    answer.chunks.append(chunk)
            else:
                answer.chunks.append(await self.rest())
        except asyncio.IncompleteReadError as error:
            answer.chunks.append(error.partial)
            answer.end = "cut"
        except ConnectionError:
            answer.end = "reset"
        return answer

    async def ask(self, method: str, target: str, body: bytes | dict[str, Any] | None = None, *headers: str) -> Answer:
        await self.send(encode(method, target, body, *headers))
        return await self.read(method)

    async def rest(self) -> bytes:
        """Read until the server closes."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    def hang_up(self, *, reset: bool = False) -> None:
        """Close by FIN, or by RST."""
        if reset:
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        else:
            self.writer.close()


async def ask(
    sim: Ollama, method: str, target: str, body: bytes | dict[str, Any] | None = None, *headers: str
) -> Answer:
    """Make one request on a connection of its own."""
    async with await Wire.open(sim) as wire:
        return await wire.ask(method, target, body, *headers)


def chat(tokens: int = 3, model: str = "llama3.2", **more: Any) -> dict[str, Any]:
    """Return a body for ``/api/chat`` that asks for so many tokens."""
    message = {"role": "user", "content": "Why is the sky blue?"}
    return {"model": model, "messages": [message], "options": {"num_predict": tokens}, **more}
