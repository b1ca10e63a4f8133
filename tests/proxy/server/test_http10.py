"""proxy/server/http10.py, over real sockets; more in test_guard.py."""

import pytest

from proxy.kernel.asgi import Receive, Send
from proxy.server.server import serve
from tests.support.options import server_options
from tests.support.raw import Raw, Recorder, Seen

BOTH_LOOPS = True

PARTS = [b"one", b"", b"two"]


async def ask(request: bytes, headers: list[tuple[bytes, bytes]], *, end: bool = True) -> tuple[bytes, bool]:
    async def answer(seen: Seen, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in PARTS:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        if end:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async with (
        serve(Recorder(answer), server_options(listen=["127.0.0.1:0"])) as server,
        await Raw.open(server.addresses[0]) as client,
    ):
        await client.send(request)
        return await client.rest(), client.was_reset


@pytest.mark.parametrize("headers", [[], [(b"Content-Length", b"6")], [(b"connection", b"close")]])
async def test_the_body_is_plain_and_closing_ends_it(headers: list[tuple[bytes, bytes]]) -> None:
    answer, was_reset = await ask(b"GET / HTTP/1.0\r\n\r\n", headers)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert body == b"onetwo"
    assert b"chunked" not in head
    assert head.count(b"connection: close") == 1
    assert not was_reset


async def test_head_has_none() -> None:
    answer, was_reset = await ask(b"HEAD / HTTP/1.0\r\n\r\n", [])
    assert answer.endswith(b"\r\n\r\n")
    assert not was_reset


async def test_a_body_that_breaks_off_is_reset_where_only_closing_would_end_it() -> None:
    assert (await ask(b"GET / HTTP/1.0\r\n\r\n", [], end=False))[1]


async def test_a_body_that_breaks_off_is_short_of_its_length() -> None:
    answer, was_reset = await ask(b"GET / HTTP/1.0\r\n\r\n", [(b"content-length", b"100")], end=False)
    assert answer.endswith(b"onetwo")
    assert not was_reset
