"""A receiver of webhooks on a real socket."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


class Receiver:
    """Takes calls and answers with the statuses of a script, the last of which it repeats."""

    def __init__(self, *statuses: int, location: str = "") -> None:
        self.statuses = list(statuses)
        self.location = location
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.called = asyncio.Event()
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        self.calls.append((fields, await reader.readexactly(int(fields["content-length"]))))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\nlocation: {self.location}\r\n\r\n".encode())
        await writer.drain()
        writer.close()
        self.called.set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Receiver"]:
        server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()
