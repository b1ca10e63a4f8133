"""The connection of an open WebSocket: frames both ways, by the bytes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.kernel.asgi import Receive, Send
from proxy.kernel.errors import Refused
from proxy.kernel.websocket import OPENING, Closing, Socket
from proxy.server.websocket_connection import WebSocketConnection
from tests.support.guarded import SHORT, connected, connections, happens
from tests.support.raw import Raw, Seen
from tests.support.websocket import HANDSHAKE


class Noting:
    """A session that notes what it is told."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.texts: list[bytes] = []
        self.held = self.most = 0
        self.left = asyncio.Event()
        self.told: list[str] = []
        self.full = False

    def text(self, message: bytes) -> None:
        self.texts.append(message)
        self.socket.send(b"%d" % len(message))

    def hold(self, change: int) -> None:
        if self.full and change > 0:
            raise Refused(503, "no memory")
        self.held += change
        self.most = max(self.most, self.held)

    def drain(self, reason: str) -> None:
        self.told.append("drain")
        self.socket.close(Closing.GOING_AWAY, reason)

    def cut(self) -> None:
        self.told.append("cut")
        self.socket.close(Closing.RESTART, "now")

    def gone(self) -> None:
        self.left.set()


@asynccontextmanager
async def opened(sent: bytes = b"", **options: Any) -> AsyncIterator[tuple[Noting, Raw, Any]]:
    """Open a socket; `sent` follows the handshake at once."""
    sessions: list[Noting] = []

    async def accept(seen: Seen, receive: Receive, send: Send) -> None:
        def make(socket: Socket) -> Noting:
            sessions.append(Noting(socket))
            return sessions[0]

        seen.scope["state"].pop(OPENING).accept(make)
        await send({"type": "http.response.start", "status": 101, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async with connected(accept, **options) as (_, client, server):
        await client.send(HANDSHAKE % (b"/", b"") + sent)
        await client.until(b"\r\n\r\n")
        yield sessions[0], client, server


def frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2) if size < 65536 else b""
    return bytes((first,)) + (length or b"\xff" + size.to_bytes(8)) + b"\0\0\0\0" + payload


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 100_000])
async def test_frames_of_every_length_go_both_ways(size: int) -> None:
    async with opened() as (session, client, _):
        await client.send(frame(0x81, b"x" * size))
        said = b"%d" % size
        assert await client.exactly(2 + len(said)) == bytes((0x81, len(said))) + said
        session.socket.send(b"y" * size)
        head = bytes((0x81, size)) if size < 126 else b"\x81~" + size.to_bytes(2) if size < 65536 else b""
        whole = (head or b"\x81\x7f" + size.to_bytes(8)) + b"y" * size
        assert await client.exactly(len(whole)) == whole
        assert session.held == 0


@pytest.mark.parametrize("way", ["close", "finish", "reset"])
async def test_a_client_that_leaves_is_noticed_however_it_leaves(way: str) -> None:
    async with opened() as (session, client, server):
        (connection,) = connections(server)
        assert isinstance(connection, WebSocketConnection)
        if way == "close":
            await client.send(frame(0x88, (1000).to_bytes(2)))
            assert await client.rest() == b"\x88\x02" + (1000).to_bytes(2)
        else:
            getattr(client, way)()
        await happens(session.left)
        await happens(server._state.empty)
        assert server.open_connections == 0
        assert session.socket.send(b"into the void")


async def test_the_server_drains_and_cuts() -> None:
    async with opened() as (session, client, server):
        await server.drain(0)
        assert session.told == ["drain"]
        assert (await client.exactly(4))[2:] == (1001).to_bytes(2)
    async with opened() as (session, client, server):
        (connection,) = connections(server)
        connection.cut()
        assert session.told == ["cut"]
        assert (await client.exactly(4))[2:] == (1012).to_bytes(2)


async def test_an_idle_socket_gives_way_and_a_busy_one_does_not() -> None:
    async with opened() as (session, client, server):
        (connection,) = connections(server)
        assert connection.idle_since() is not None
        session.socket.busy(True)
        assert connection.idle_since() is None
        session.socket.busy(False)
        connection.make_way()
        assert (await client.exactly(4))[2:] == (1013).to_bytes(2)
        assert server.open_connections == 0


async def test_a_client_need_not_wait_for_the_handshake() -> None:
    async with opened(frame(0x81, b"x" * 60_000)) as (session, client, _):
        assert await client.exactly(7) == b"\x81\x0560000"
        await client.send(frame(0x81, b"more"))
        assert await client.exactly(3) == b"\x81\x014"
        assert session.held == 0


async def test_what_was_said_before_the_end_still_goes_out_to_a_slow_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.server.websocket_connection.LINGER_SECONDS", SHORT)
    async with opened(receive_buffer=4096) as (session, client, _):
        size = 16 << 20
        session.socket.send(b"y" * size)
        session.socket.close(Closing.GOING_AWAY, "enough")
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(2 * SHORT, over.set)
        await happens(over)
        assert len(await client.exactly(10 + size)) == 10 + size
        assert (await client.exactly(4))[2:] == (1001).to_bytes(2)
