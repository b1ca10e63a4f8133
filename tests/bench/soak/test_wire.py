"""The soak's own client: what is whole, and what broke off."""

import asyncio

import pytest

from bench.soak import wire as wire_module
from bench.soak.wire import Broken, Wire, request

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n"


async def read(answer: bytes, *, close: bool = True) -> tuple[int, bytes]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if close:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        wire = await Wire.connect(server.sockets[0].getsockname()[1])
        await wire.send(request("GET", "/", port=80, user_agent="soak"))
        try:
            head = await wire.head()
            return head.status, b"".join([chunk async for chunk in wire.body(head)])
        finally:
            wire.leave(reset=True)


async def test_whole_answers() -> None:
    assert await read(CHUNKED + b"0\r\n\r\n") == (200, b"abcde")
    assert await read(b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno!") == (404, b"no!")
    assert await read(b"HTTP/1.1 204 No Content\r\n\r\n") == (204, b"")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", CHUNKED, CHUNKED + b"9\r\nabc"])
async def test_answers_that_break_off(answer: bytes) -> None:
    with pytest.raises(Broken):
        await read(answer)


def test_a_request_has_its_length() -> None:
    assert request("POST", "/x", port=1, body=b"{}", x_a="b").endswith(b"x-a: b\r\ncontent-length: 2\r\n\r\n{}")


@pytest.mark.parametrize("begun", [b"", CHUNKED], ids=["nothing", "its beginning"])
async def test_an_answer_that_does_not_come_is_no_broken_one(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "PATIENCE", 0.01)
    with pytest.raises(TimeoutError):
        await read(begun, close=False)
