"""What is read of an open WebSocket: messages, however they come, and the memory of what is not whole."""

import pytest

from tests.proxy.server.test_websocket_connection import frame, opened
from tests.support.guarded import connections, happens


async def test_a_message_that_comes_bytewise_and_in_fragments_is_accounted_for() -> None:
    async with opened() as (session, client, _):
        await client.send_bytewise(frame(0x01, b"hel") + frame(0x89, b"?") + frame(0x00, b"") + frame(0x80, b"lo"))
        assert await client.exactly(3 + 3) == b"\x8a\x01?\x81\x015"
        assert session.texts == [b"hello"]
        assert session.held == 0
        assert session.most >= len(b"hello")


async def test_a_message_for_which_there_is_no_memory_closes_the_socket() -> None:
    async with opened() as (session, client, _):
        session.full = True
        await client.send(frame(0x01, b"hello"))
        assert (await client.exactly(4))[2:] == (1013).to_bytes(2)
        await happens(session.left)


async def test_a_client_that_pings_and_does_not_read_is_no_longer_read() -> None:
    async with opened(write_timeout=0.2) as (session, client, server):
        (connection,) = connections(server)
        ping = frame(0x89, b"x" * 125) * 1000
        while not connection._flow.read_paused and not session.left.is_set():
            await client.send(ping)
        assert connection.transport.get_write_buffer_size() < 2**20
        await happens(session.left)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(0x82, b"binary"), 1003),
        (frame(0x81, b"\xff"), 1007),
        (frame(0x01, b"\xc3") + frame(0x80, b"\x28"), 1007),
        (b"\x81\x01x", 1002),
        (frame(0x80, b"nothing to go on with"), 1002),
        (frame(0x01, b"a") + frame(0x81, b"b"), 1002),
        (frame(0xC1, b"reserved"), 1002),
        (frame(0x09, b"a ping in fragments"), 1002),
    ],
)
async def test_frames_that_nobody_may_send_close_the_socket(sent: bytes, code: int) -> None:
    async with opened() as (session, client, _):
        await client.send(sent)
        assert (await client.exactly(4))[2:] == code.to_bytes(2)
        await happens(session.left)
        assert not session.texts
        assert session.held == 0


async def test_the_rest_of_a_message_has_to_come_in_time() -> None:
    async with opened(body_timeout=0.05) as (session, client, _):
        await client.send(frame(0x81, b"hello")[:-1])
        assert (await client.exactly(4))[2:] == (1008).to_bytes(2)
        assert session.held == 0


async def test_letters_in_two_fragments_are_whole() -> None:
    async with opened() as (session, client, _):
        await client.send(frame(0x01, b"\xc3") + frame(0x80, b"\xa9"))
        assert await client.exactly(3) == b"\x81\x012"
        assert session.texts == ["é".encode()]
