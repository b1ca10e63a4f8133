"""From HTTP to WebSocket, on real connections to the guarded server."""

from typing import Any

import pytest

from proxy.kernel.asgi import Receive, Send
from proxy.kernel.websocket import OPENING, Opening, Socket
from proxy.server.websocket_upgrade import Upgrade
from proxy.testing.exchanges import SETTINGS
from proxy.wiring import server_options
from tests.support.guarded import connected
from tests.support.raw import Seen, reply
from tests.support.websocket import HANDSHAKE


class Parrot:
    """A session that says what it hears, in capitals."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket

    def text(self, message: bytes) -> None:
        self.socket.send(message.upper())

    def hold(self, change: int) -> None: ...

    def drain(self, reason: str) -> None: ...

    def cut(self) -> None: ...

    def gone(self) -> None: ...


async def accept(seen: Seen, receive: Receive, send: Send) -> None:
    opening: Opening | None = seen.scope["state"].get(OPENING)
    if opening is None:
        await reply(send, b"plain")
        return
    opening.accept(Parrot)
    await send({"type": "http.response.start", "status": 101, "headers": [(b"sec-websocket-protocol", b"chat")]})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


SAY = b"\x81\x82\0\0\0\0hi"


@pytest.mark.parametrize("together", [False, True], ids=["after the answer", "with the head"])
async def test_frames_come_after_the_handshake(together: bool) -> None:
    async with connected(accept) as (app, client, server):
        await client.send(HANDSHAKE % (b"/a%20b?c=d", b"X-Field: y\r\n") + (SAY if together else b""))
        head = await client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        for field in (b"upgrade: websocket", b"connection: Upgrade", b"sec-websocket-protocol: chat"):
            assert field in head
        assert b"transfer-encoding" not in head
        if not together:
            await client.send(SAY)
        assert await client.exactly(4) == b"\x81\x02HI"
        (seen,) = app.seen
        assert (seen.scope["type"], seen.scope["method"], seen.scope["path"]) == ("http", "GET", "/a b")
        opening = seen.scope["state"][OPENING]
        assert (opening.path, opening.query) == ("/a b", b"c=d")
        assert opening.headers == [(b"host", b"localhost"), (b"x-field", b"y")]
        assert server.open_connections == 1
        client.finish()
        assert await client.rest() == b""


@pytest.mark.parametrize("refusal", [b"Connection: keep-alive\r\n", b""], ids=["no upgrade", "switched off"])
async def test_other_requests_are_answered_as_before(refusal: bytes) -> None:
    options: dict[str, Any] = {} if refusal else {"websocket": None}
    async with connected(accept, **options) as (_, client, _):
        wish = HANDSHAKE % (b"/", b"")
        await client.send(wish.replace(b"Connection: keep-alive, Upgrade\r\n", refusal) if refusal else wish)
        assert (await client.response()).body == b"plain"
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")  # on the same connection
        assert (await client.response()).body == b"plain"


async def test_a_refused_handshake_leaves_the_connection_to_http() -> None:
    async def refuse(seen: Seen, receive: Receive, send: Send) -> None:
        await reply(send, b"no", 403)

    async with connected(refuse) as (app, client, _):
        for _ in range(2):
            await client.send(HANDSHAKE % (b"/", b""))
            assert (await client.response()).status == 403
        assert len(app.seen) == 2


def test_an_upgrade_that_nobody_accepted_makes_no_session() -> None:
    options = server_options(SETTINGS).websocket
    assert options is not None
    assert Upgrade.wanted(b"GET", [], options) is None
    upgrade = Upgrade([], options)
    assert not upgrade.switches
    with pytest.raises(RuntimeError):
        upgrade.session(None)  # type: ignore[arg-type]
