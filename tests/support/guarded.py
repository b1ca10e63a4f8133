"""A server with the guard in front of an application of the test's own, and one raw connection to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from proxy.kernel.asgi import Receive, Send
from proxy.server.server import Server, serve
from tests.support.options import server_options
from tests.support.raw import PATIENCE, Handler, Raw, Recorder, Seen, wait_for_disconnect

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
SHORT = 0.05
"""Seconds of a deadline that a test waits for."""


def post(length: int, fields: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n" % (fields, length)


@asynccontextmanager
async def connected(
    handler: Handler | None = None, *, receive_buffer: int | None = None, **options: Any
) -> AsyncIterator[tuple[Recorder, Raw, Server]]:
    app = Recorder(handler)
    async with (
        serve(app, server_options(listen=["127.0.0.1:0"], **options)) as server,
        await Raw.open(server.addresses[0], receive_buffer=receive_buffer) as client,
    ):
        yield app, client, server


async def happens(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE):
        await event.wait()


async def paused(connection: Any, what: str) -> None:
    """Wait until flow control stops `what`: reading or writing."""
    flow, event = connection.flow, asyncio.Event()
    pause = getattr(flow, f"pause_{what}")

    def pause_and_tell() -> None:
        pause()
        event.set()

    setattr(flow, f"pause_{what}", pause_and_tell)
    if not getattr(flow, {"reading": "read_paused", "writing": "write_paused"}[what]):
        await happens(event)


def connections(server: Server) -> set[Any]:
    return server._state.connections


async def endless(seen: Seen, receive: Receive, send: Send) -> None:
    """Stream until the client has gone."""
    watch = asyncio.create_task(wait_for_disconnect(seen, receive, send))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while not seen.gone.is_set():
        await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
        await asyncio.sleep(0)
    await watch
