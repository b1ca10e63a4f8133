"""What is read of an open WebSocket: messages, however they come, and the memory of what is not whole."""

import asyncio

import pytest

from proxy.kernel.websocket import Closing
from tests.proxy.server.test_websocket_connection import frame, opened
from tests.support.backend import eventually
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
        sending = asyncio.create_task(client.send(ping * 100))
        await eventually(lambda: connection.transport.get_write_buffer_size() > 2**18)
        assert connection.transport.get_write_buffer_size() < 2**19
        await happens(session.left)
        await sending


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


@pytest.mark.parametrize("small", [frame(0x81, b""), frame(0x89, b"") * 3 + frame(0x81, b"x")])
async def test_a_flood_of_small_frames_leaves_turns_to_others(small: bytes) -> None:
    """What one read brings may be forty thousand frames: others have their turns in between."""
    async with opened() as (session, client, _):
        in_one_turn = [0]

        def text(message: bytes) -> None:
            if not in_one_turn[-1]:
                asyncio.get_running_loop().call_soon(in_one_turn.append, 0)
            in_one_turn[-1] += 1
            session.texts.append(message)

        session.text = text  # type: ignore[method-assign]
        await client.send(small * 5000 + frame(0x81, b"last"))
        await eventually(lambda: session.texts[-1:] == [b"last"])
        assert len(session.texts) == 5001
        assert max(in_one_turn) <= 64
        assert session.held == 0


async def test_no_message_is_taken_while_the_session_reads_a_long_one() -> None:
    async with opened() as (session, client, server):
        (connection,) = connections(server)
        taken = session.text

        def text(message: bytes) -> None:
            taken(message)
            session.socket.pause()

        session.text = text  # type: ignore[method-assign]
        await client.send(frame(0x81, b"a") + frame(0x81, b"bb") + frame(0x81, b"ccc"))
        assert await client.exactly(3) == b"\x81\x011"
        assert (session.texts, connection._flow.read_paused) == ([b"a"], True)
        assert session.held > 0  # what came is accounted for while it waits
        for number in (2, 3):
            session.socket.go_on()
            assert await client.exactly(3) == b"\x81\x01%d" % number
        assert session.held == 0
        session.socket.go_on()
        await client.send(frame(0x81, b"dddd"))
        assert await client.exactly(3) == b"\x81\x014"
        client.reset()  # noticed although nothing is read
        await happens(session.left)


TOO_LARGE = b"\x81\xff" + (1 << 40).to_bytes(8) + b"\0\0\0\0"
UNMASKED = b"\x81\x7f" + (8 << 20).to_bytes(8)


@pytest.mark.parametrize(("bad", "code"), [(TOO_LARGE, 1009), (UNMASKED, 1002)], ids=["too large", "unmasked"])
async def test_a_client_that_still_sends_reads_why_it_was_cut_off(bad: bytes, code: int) -> None:
    """A connection that is closed with input unread is reset, and what was sent to the client is lost."""
    async with opened() as (session, client, server):
        sending = asyncio.create_task(client.send(bad + b"x" * (8 << 20)))
        head = await client.exactly(4)
        assert (head[0], int.from_bytes(head[2:])) == (0x88, code)
        await sending
        await client.rest()
        assert not client.was_reset
        client.finish()
        await happens(server._state.empty)
        assert session.held == 0


async def test_what_comes_after_the_end_takes_no_memory() -> None:
    async with opened() as (session, client, server):
        (connection,) = connections(server)
        session.socket.close(Closing.NORMAL, "enough")
        await client.exactly(4)
        await client.send(b"\x81\xff" + (4 << 20).to_bytes(8) + b"\0\0\0\0" + b"x" * (1 << 20))
        await eventually(lambda: connection._begun > 65_536)
        await client.send(b"x" * (1 << 20))
        client.finish()
        await happens(server._state.empty)
        assert len(connection._unparsed) + len(connection._protocol.reader.buffer) < 2**20
