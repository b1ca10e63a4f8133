"""proxy/server/request_reader.py, over real sockets: bounds, deadlines, bad bodies, pipelining.

What it refuses by its form stands in tests/live/test_framing.py.
"""

import asyncio
import tracemalloc

import pytest

from proxy.kernel.asgi import Receive, Send
from proxy.kernel.server_extensions import when_gone
from proxy.server.request_reader import KEPT_BYTES
from tests.support.guarded import CHUNKED, GET, SHORT, connected, connections, endless, happens, paused, post
from tests.support.raw import PATIENCE, Seen, read_body, reply, wait_for_disconnect

BOTH_LOOPS = True


# Bounds of a head


def head_of(size: int) -> bytes:
    start = b"GET / HTTP/1.1\r\nHost: x\r\nA: "
    return start + b"a" * (size - len(start) - 4) + b"\r\n\r\n"


async def test_a_head_of_the_allowed_size_passes() -> None:
    async with connected(head_bytes=2000) as (_, client, _):
        await client.send(head_of(2000))
        assert (await client.response()).status == 200


@pytest.mark.parametrize("size", [2001, 500_000])
async def test_a_head_that_is_too_large_is_refused(size: int) -> None:
    async with connected(head_bytes=2000) as (app, client, _):
        await client.send(head_of(size))
        answer = await client.response()
        assert answer.status == 431
        assert await client.rest() == b""
        assert app.seen == []


async def test_a_head_in_pieces_is_refused_when_it_cannot_end_in_time_for_its_size() -> None:
    async with connected(head_bytes=2000) as (app, client, _):
        await client.send(b"GET / HTTP/1.1\r\n")
        for _ in range(100):
            await client.send(b"A: " + b"a" * 95 + b"\r\n")
        assert (await client.response()).status == 431
        assert app.seen == []


async def test_a_target_too_long_for_the_parser_is_refused() -> None:
    async with connected(head_bytes=200_000) as (app, client, _):
        await client.send(b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.response()).status == 400
        assert app.seen == []


async def test_memory_stays_flat_under_an_endless_head() -> None:
    async with connected() as (_, client, _):
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nA: ")
        block = b"a" * 65_536
        tracemalloc.start()
        try:
            for _ in range(400):
                await client.send(block)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 3_000_000
        assert (await client.response()).status == 431


@pytest.mark.parametrize(("fields", "status"), [(100, 200), (101, 431)])
@pytest.mark.parametrize("bytewise", [False, True])
async def test_the_number_of_fields_is_bounded(fields: int, status: int, bytewise: bool) -> None:
    async with connected() as (_, client, _):
        head = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * (fields - 1) + b"\r\n"
        await (client.send_bytewise(head) if bytewise else client.send(head))
        assert (await client.response()).status == status


# Deadlines of what a client sends


async def test_a_head_that_does_not_end_is_timed_out() -> None:
    async with connected(head_timeout=SHORT) as (app, client, _):
        await client.send(b"GET / HTTP/1.1\r\nHos")
        answer = await client.response()
        assert (answer.status, answer.header(b"connection")) == (408, b"close")
        assert await client.rest() == b""
        assert app.seen == []


async def test_the_deadline_of_a_head_is_not_moved_by_its_bytes() -> None:
    async with connected(head_timeout=0.2) as (_, client, _):

        async def drip() -> None:
            while True:
                await client.send(b"a")
                await asyncio.sleep(0.01)

        await client.send(b"GET /")
        dripping = asyncio.create_task(drip())
        assert (await client.response()).status == 408
        dripping.cancel()


async def test_a_silent_connection_is_closed() -> None:
    async with connected(head_timeout=SHORT) as (_, client, _):
        assert await client.rest() == b""


async def test_the_second_head_of_a_connection_has_its_deadline_too() -> None:
    async with connected(head_timeout=SHORT) as (_, client, _):
        await client.send(GET)
        await client.response()
        await client.send(b"GET")
        assert (await client.response()).status == 408


async def test_an_idle_connection_is_closed() -> None:
    async with connected(keep_alive=SHORT, head_timeout=60) as (_, client, _):
        await client.send(GET)
        await client.response()
        assert await client.rest() == b""


async def test_a_connection_that_is_used_again_is_not_idle() -> None:
    async def slow(seen: Seen, receive: Receive, send: Send) -> None:
        if seen.target == b"/slow":
            await asyncio.sleep(6 * SHORT)
        await reply(send, b"ok")

    async with connected(slow, keep_alive=SHORT) as (_, client, _):
        await client.send(GET)
        await client.response()
        await client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.response()).body == b"ok"


async def test_an_empty_line_between_requests_does_not_keep_a_connection_open() -> None:
    async with connected(keep_alive=60, head_timeout=SHORT) as (_, client, _):
        await client.send(GET)
        await client.response()
        await client.send(b"\r\n")
        assert await client.rest() == b""


@pytest.mark.parametrize("start", [post(10) + b"12345", CHUNKED + b"a\r\n12345"])
async def test_a_body_that_stops_is_timed_out(start: bytes) -> None:
    async with connected(wait_for_disconnect, body_timeout=SHORT) as (app, client, _):
        await client.send(start)
        assert (await client.response()).status == 408
        seen = await app.next()
        await happens(seen.gone)
        assert seen.dropped == "body_timeout"
        assert not seen.complete


async def test_a_body_that_we_do_not_read_is_not_timed_out() -> None:
    go = asyncio.Event()

    async def later(seen: Seen, receive: Receive, send: Send) -> None:
        await go.wait()
        await read_body(seen, receive)
        await reply(send, b"%d" % len(seen.body))

    async with connected(later) as (app, client, server):
        sending = asyncio.create_task(client.send(post(20_000_000) + b"a" * 20_000_000))
        await app.next()
        (connection,) = connections(server)
        await paused(connection, "reading")
        for _ in range(3):
            connection._body_late()
        go.set()
        assert (await client.response()).body == b"20000000"
        await sending


async def test_a_body_that_we_did_not_ask_for_yet_is_not_timed_out() -> None:
    go = asyncio.Event()

    async def later(seen: Seen, receive: Receive, send: Send) -> None:
        await go.wait()
        await read_body(seen, receive)
        await reply(send, seen.body)

    async with connected(later) as (app, client, server):
        await client.send(post(5, b"Expect: 100-continue\r\n"))
        await app.next()
        (connection,) = connections(server)
        for _ in range(3):
            connection._body_late()
        go.set()
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hello")
        assert (await client.response()).body == b"hello"


async def test_a_body_that_came_is_not_timed_out_while_it_is_answered() -> None:
    async def slow(seen: Seen, receive: Receive, send: Send) -> None:
        await read_body(seen, receive)
        await asyncio.sleep(6 * SHORT)
        await reply(send, seen.body)

    async with connected(slow, body_timeout=SHORT) as (app, client, _):
        await client.send(post(10) + b"12345")
        await app.next()
        await client.send(b"67890")
        assert (await client.response()).body == b"1234567890"


# Bodies that turn out bad


@pytest.fixture
def long_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no refused connection end by its deadline."""
    monkeypatch.setattr("proxy.server.guarded_protocol.LINGER_SECONDS", 3600)


@pytest.mark.usefixtures("long_linger")
async def test_a_bad_chunk_in_the_middle_ends_the_request() -> None:
    async with connected(wait_for_disconnect) as (app, client, _):
        await client.send(CHUNKED + b"5\r\nhello\r\n")
        seen = await app.next()
        await client.send(b"5x\r\nhello\r\n0\r\n\r\n" + GET)
        assert (await client.response()).status == 400
        assert await client.rest() == b""
        await happens(seen.gone)
        assert seen.dropped == "malformed_request"
        assert len(app.seen) == 1


async def test_a_bad_chunk_under_a_running_answer_cuts_it() -> None:
    async with connected(endless) as (app, client, _):
        await client.send(CHUNKED + b"5\r\nhello\r\n")
        seen = await app.next()
        await client.until(b"\r\n\r\n")
        await client.send(b"nonsense\r\n")
        assert b"HTTP/1.1" not in (rest := await client.rest())
        assert not rest.endswith(b"0\r\n\r\n")
        await happens(seen.gone)


@pytest.mark.usefixtures("long_linger")
async def test_what_follows_a_refusal_is_taken_and_dropped() -> None:
    async def waits(seen: Seen, receive: Receive, send: Send) -> None:
        assert when_gone(seen.scope, gone.set)
        await gone.wait()

    gone = asyncio.Event()
    async with connected(waits) as (app, client, server):
        await client.send(CHUNKED)
        await app.next()
        (connection,) = connections(server)
        # One read that both fills the buffer of the body, which stops reading, and is wrong.
        connection.data_received(b"186a0\r\n" + b"a" * 100_000 + b"nonsense")
        async with asyncio.timeout(PATIENCE):
            await client.send(b"a" * 10_000_000)
        await happens(gone)
        assert (await client.response()).status == 400


@pytest.mark.usefixtures("long_linger")
async def test_a_refusal_releases_an_application_that_is_blocked_in_send() -> None:
    done = asyncio.Event()

    async def answer(seen: Seen, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 20_000_000, "more_body": True})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        done.set()

    async with connected(answer, receive_buffer=4096) as (app, client, server):
        await client.send(CHUNKED)
        await app.next()
        (connection,) = connections(server)
        await paused(connection, "writing")
        await client.send(b"nonsense\r\n")
        await happens(done)


@pytest.mark.parametrize("filler", [b"1;" + b"a" * 300_000, b"0\r\nA: " + b"a" * 300_000])
async def test_what_stands_between_chunks_is_bounded(filler: bytes) -> None:
    async with connected(wait_for_disconnect) as (app, client, _):
        await client.send(CHUNKED)
        seen = await app.next()
        await client.send(filler)
        assert (await client.response()).status == 400
        await happens(seen.gone)
        assert seen.dropped == "bad_chunk_overhead"


async def test_chunks_of_one_byte_are_not_too_much_between_chunks() -> None:
    async with connected() as (_, client, _):
        await client.send(CHUNKED + b"1\r\nx\r\n" * 30_000 + b"0\r\n\r\n")
        assert len((await client.response()).body) == len(b"POST / ") + 30_000


# Pipelining


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with connected() as (_, client, _):
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(50)))
        for number in range(50):
            assert (await client.response()).body == b"GET /%d " % number


async def test_a_pipelined_request_waits_for_the_answer_before_it() -> None:
    go = asyncio.Event()

    async def answer(seen: Seen, receive: Receive, send: Send) -> None:
        if seen.target == b"/":
            await go.wait()
        await reply(send, seen.target)

    async with connected(answer) as (app, client, _):
        await client.send(GET + b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
        await app.next()
        assert len(app.seen) == 1
        go.set()
        assert (await client.response()).body == b"/"
        assert (await client.response()).body == b"/2"


async def test_too_much_behind_a_request_ends_it() -> None:
    async with connected(wait_for_disconnect) as (app, client, _):
        await client.send(GET)
        seen = await app.next()
        await client.send(b"a" * (KEPT_BYTES + 1))
        await happens(seen.gone)
        assert seen.dropped == "pipeline_overflow"


async def test_too_much_at_once_behind_a_request_ends_it() -> None:
    async with connected(wait_for_disconnect) as (app, client, _):
        await client.send(GET + b"a" * 500_000)
        assert await client.rest() == b""
        assert app.seen == []


async def test_a_refusal_waits_for_the_answer_before_it() -> None:
    go = asyncio.Event()

    async def answer(seen: Seen, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await go.wait()
        await send({"type": "http.response.body", "body": b"two"})

    async with connected(answer) as (app, client, _):
        await client.send(GET)
        await app.next()
        await client.send(b"nonsense\r\n\r\n" + GET)
        await client.until(b"one")
        go.set()
        assert await client.until(b"0\r\n\r\n") == b"\r\n3\r\ntwo\r\n0\r\n\r\n"
        assert (await client.response()).status == 400
        assert await client.rest() == b""
        assert len(app.seen) == 1


async def test_what_follows_connection_close_is_not_executed() -> None:
    async with connected() as (app, client, _):
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + GET)
        assert (await client.response()).header(b"connection") == b"close"
        assert await client.rest() == b""
        assert len(app.seen) == 1
