import asyncio

import pytest

from proxy.simulator.request import ClientGone, Request


def make(target: bytes = b"/api/chat?a=1", headers: list[tuple[bytes, bytes]] | None = None) -> Request:
    return Request(1, 2, 3, "POST", target, headers or [])


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/api/chat", "/api/chat", b""),
        (b"/api/chat?a=%2f&b", "/api/chat", b"a=%2f&b"),
        (b"/api/%64elete", "/api/delete", b""),
        (b"/api%2fpull", "/api/pull", b""),
        (b"http://host:1/api/ps?x", "/api/ps", b"x"),
        (b"HTTPS://host", "/", b""),
        (b"/v1/models/a%3Ab", "/v1/models/a:b", b""),
        (b"*", "*", b""),
    ],
)
def test_targets_are_read_as_go_reads_them(target: bytes, path: str, query: bytes) -> None:
    request = make(target)
    assert (request.path, request.query, request.target) == (path, query, target)


def test_headers_keep_case_and_duplicates() -> None:
    request = make(headers=[(b"Cookie", b"a"), (b"HOST", b"h"), (b"cookie", b"b")])
    assert request.header("host") == b"h"
    assert request.all(b"COOKIE") == [b"a", b"b"]
    assert request.header("x") is None
    assert request.headers[1] == (b"HOST", b"h")


async def test_the_body_is_waited_for() -> None:
    request = make()
    reading = asyncio.create_task(request.read())
    for part in (b'{"a":', b"1}"):
        await asyncio.sleep(0)
        request.feed(part)
    assert not reading.done()
    request.finish()
    assert await reading == b'{"a":1}'
    assert (request.body_bytes, request.complete, request.json()) == (7, True, {"a": 1})


async def test_a_broken_body_is_no_body() -> None:
    request = make()
    reading = asyncio.create_task(request.read())
    await asyncio.sleep(0)
    request.finish(lost=True)
    with pytest.raises(ClientGone):
        await reading


async def test_a_streamed_body_is_not_kept() -> None:
    request = make()
    request.streamed = True
    request.feed(b"abc")
    assert request.unread == 3
    parts = []

    async def take() -> None:
        async for part in request.stream():
            parts.append(part)

    taking = asyncio.create_task(take())
    await asyncio.sleep(0)
    request.feed(b"de")
    request.finish()
    await taking
    assert (parts, request.body, request.body_bytes, request.unread) == ([b"abc", b"de"], b"", 5, 0)


async def test_a_reader_says_that_it_wants_the_body() -> None:
    request = make()
    wanted: list[bool] = []
    request.on_read = lambda: wanted.append(True)
    reading = asyncio.create_task(request.read())
    await asyncio.sleep(0)
    request.finish()
    await reading
    assert wanted == [True]


def test_repr_tells_what_and_how() -> None:
    request = make()
    request.status = 200
    assert repr(request) == "<POST /api/chat?a=1 #1 200 open>"
