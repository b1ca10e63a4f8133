"""A client that gets an answer in pieces, over connections that break, and a backend that speaks when it is told to."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.support.backend import Backend, Peer, backend, reply
from tests.support.proxy import Running
from tests.support.wire import Client, Reply, request

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": True}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"


def lines(texts: Sequence[str]) -> list[bytes]:
    """Return the chunks of a stream of Ollama's own API."""
    return [
        *(
            b'{"model":"llama3.2","message":{"role":"assistant","content":"%b"},"done":false}\n' % t.encode()
            for t in texts
        ),
        b'{"model":"llama3.2","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}\n',
    ]


def events(texts: Sequence[str]) -> list[bytes]:
    """Return the chunks of a stream of OpenAI's API."""
    said = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n'
    return [*(said % text.encode() for text in texts), b"data: [DONE]\n\n"]


@dataclass
class Speaker:
    """A backend that answers with `chunks`, each when it is told to go on.

    Attributes:
        gone: set when the proxy has closed the connection before the end.
    """

    chunks: list[bytes]
    kind: bytes = b"application/x-ndjson"
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    _may: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def go_on(self, chunks: int = 1) -> None:
        """Let it say some more chunks."""
        for _ in range(chunks):
            self._may.release()

    async def script(self, peer: Peer) -> None:
        while not (await peer.request()).startswith(b"POST"):
            await peer.send(reply(b'{"version":"0.0.0","models":[]}', b"Content-Type: application/json"))
        await peer.send(HEAD % self.kind)
        leaving = asyncio.create_task(peer.gone())
        for chunk in self.chunks:
            turn = asyncio.create_task(self._may.acquire())
            await asyncio.wait([turn, leaving], return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                turn.cancel()
                self.gone.set()
                return
            await peer.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        await peer.send(b"0\r\n\r\n")
        await leaving


@asynccontextmanager
async def speaking(speaker: Speaker) -> AsyncIterator[Backend]:
    """Run the backend."""
    async with backend(speaker.script) as running:
        yield running


async def begin(
    proxy: Running, path: str = "/api/chat", headers: dict[str, str] | None = None, **more: Any
) -> tuple[Client, Reply]:
    """Send a request, and return its client with the head of the answer."""
    client = await Client.connect(proxy.address)
    await client.send(request("POST", path, {**CHAT, **more}, headers))
    return client, await client.read_head()


def resume_at(head: Reply) -> str:
    """Return the path at which an answer is resumed."""
    path, relation = head.headers["link"].split(">")
    assert relation == '; rel="resume"'
    return path.removeprefix("<")


async def read_on(client: Client, least: int) -> tuple[bytes, bool]:
    """Read at least so many bytes of a chunked body; return them, and whether that was its clean end."""
    got = bytearray()
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while len(got) < least:
            chunk = await client.read_chunk()
            if not chunk:
                return bytes(got), True
            got += chunk
    return bytes(got), False
