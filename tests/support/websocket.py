"""A client of WebSockets for tests, and what it says."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.support.process import Process
from tests.support.proxy import Running
from tests.support.raw import PATIENCE

CHAT = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
HANDSHAKE = (
    b"GET %b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%b\r\n"
)
"""A handshake, to be filled in with a path and further fields."""


QUIET = logging.getLogger("tests.websocket")
"""The log of a client; below this level it has the client's header, and this process's log is the proxy's."""
QUIET.setLevel(logging.WARNING)


@asynccontextmanager
async def websocket(
    proxy: Running | Process, path: str = "/api/chat", **options: Any
) -> AsyncIterator[ClientConnection]:
    host, port = proxy.address
    options = {"max_size": None, "proxy": None, "close_timeout": 2, "ping_interval": None, "logger": QUIET, **options}
    scheme = "wss" if "ssl" in options else "ws"
    async with connect(f"{scheme}://{host}:{port}{path}", **options) as socket:
        yield socket


async def say(socket: ClientConnection, message: object) -> None:
    await socket.send(json.dumps(message))


async def hear(socket: ClientConnection) -> Any:
    """Wait for one frame and return what it holds."""
    async with asyncio.timeout(PATIENCE):
        return json.loads(await socket.recv())


async def hear_until(socket: ClientConnection, member: str) -> list[Any]:
    """Collect frames up to one that has a true `member`, or an error; of an envelope its data counts."""
    heard: list[Any] = []
    while True:
        heard.append(await hear(socket))
        data = heard[-1].get("data", heard[-1])
        if data == "[DONE]" or "error" in heard[-1] or data.get(member):
            return heard
