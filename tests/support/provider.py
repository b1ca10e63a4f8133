"""An identity provider on a real socket, scripted: what each path answers, and how often it was asked."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import orjson

Answer = bytes | Callable[[Mapping[str, str]], bytes | Awaitable[bytes]]


def http(status: int, document: object = None, **headers: str) -> bytes:
    """Return a whole HTTP answer; `document` as JSON."""
    body = b"" if document is None else orjson.dumps(document)
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Provider:
    """Answers by path.

    Attributes:
        url: where it is, without a path.
        answers: path → the bytes of the answer, or what makes them of the form that was posted.
        asked: path → how often.
        heads: the head of every request, as text.
    """

    url: str
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    heads: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            path = head.split(" ")[1]
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            form = dict(parse_qsl((await reader.readexactly(int(fields.get("content-length", "0")))).decode()))
            self.asked[path] += 1
            answer = self.answers.get(path, http(404))
            if callable(answer):
                made = answer(form)
                answer = made if isinstance(made, bytes) else await made
            writer.write(answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    """Run a provider on a free port of the loopback; on leaving, it is down."""
    running: set[asyncio.Task[None]] = set()
    it = Provider("")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await it.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            running.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    it.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield it
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()
