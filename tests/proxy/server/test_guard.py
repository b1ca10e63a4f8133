"""proxy/server/guard.py, over real sockets: bounds, deadlines, disconnects, pipelining, endings.

What it refuses by its form stands in tests/live/test_framing.py.
"""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from proxy.kernel.asgi import Receive, Send
from proxy.kernel.server_extensions import when_gone
from proxy.server.guard import KEPT_BYTES, GuardedProtocol
from proxy.server.server import Server, ServerOptions, serve
from tests.support.raw import PATIENCE, Handler, Raw, Recorder, Seen, read_body, reply, wait_for_disconnect

BOTH_LOOPS = True

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
        serve(app, ServerOptions(listen=["127.0.0.1:0"], **options)) as server,
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
    monkeypatch.setattr("proxy.server.guard.LINGER_SECONDS", 3600)


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


# Clients that go


def fin(client: Raw) -> None:
    client.sock.close()


def half_close(client: Raw) -> None:
    client.finish()


def rst(client: Raw) -> None:
    client.reset()


LEAVE = pytest.mark.parametrize("leave", [fin, half_close, rst])


@LEAVE
@pytest.mark.parametrize(
    "data", [GET, post(10) + b"12345", CHUNKED + b"5\r\nhello\r\n", CHUNKED, GET + GET, GET + b"GET /"]
)
async def test_receive_tells_of_a_client_that_goes(leave: Callable[[Raw], None], data: bytes) -> None:
    async with connected(wait_for_disconnect) as (app, client, _):
        await client.send(data)
        seen = await app.next()
        leave(client)
        await happens(seen.gone)
        assert seen.dropped is None
    assert len(app.seen) == 1, "what stood behind it is not executed"


@LEAVE
@pytest.mark.parametrize("data", [GET, post(300_000) + b"a" * 200_000, post(5) + b"hello" + GET])
async def test_the_application_is_called_back_when_the_client_goes(leave: Callable[[Raw], None], data: bytes) -> None:
    called = asyncio.Event()

    async def not_receiving(seen: Seen, receive: Receive, send: Send) -> None:
        assert when_gone(seen.scope, called.set)
        await called.wait()

    async with connected(not_receiving) as (app, client, server):
        await client.send(data)
        await app.next()
        if len(data) > 200_000:
            (connection,) = connections(server)
            await paused(connection, "reading")
        leave(client)
        await happens(called)


async def test_the_application_is_called_back_at_once_when_the_client_has_gone() -> None:
    called = asyncio.Event()

    async def late(seen: Seen, receive: Receive, send: Send) -> None:
        await wait_for_disconnect(seen, receive, send)
        when_gone(seen.scope, called.set)

    async with connected(late) as (app, client, _):
        await client.send(GET)
        await app.next()
        client.sock.close()
        await happens(called)


async def test_the_application_is_not_called_back_after_its_answer() -> None:
    calls: list[str] = []

    async def answer(seen: Seen, receive: Receive, send: Send) -> None:
        when_gone(seen.scope, lambda: calls.append(seen.scope["path"]))
        await reply(send, b"ok")

    async with connected(answer) as (_, client, server):
        await client.send(GET)
        await client.response()
        client.sock.close()
        await happens(server._state.empty)
    assert calls == []


@LEAVE
async def test_a_stream_learns_of_a_client_that_goes(leave: Callable[[Raw], None]) -> None:
    async with connected(endless) as (app, client, _):
        await client.send(GET)
        seen = await app.next()
        await client.until(b"\r\n\r\n")
        leave(client)
        await happens(seen.gone)


@LEAVE
async def test_a_stream_that_is_stuck_learns_of_a_client_that_goes(leave: Callable[[Raw], None]) -> None:
    async with connected(endless, receive_buffer=4096) as (app, client, server):
        await client.send(GET)
        seen = await app.next()
        (connection,) = connections(server)
        await paused(connection, "writing")
        leave(client)
        await happens(seen.gone)
        assert seen.dropped is None


# Clients that do not read


async def test_a_client_that_does_not_read_is_dropped() -> None:
    async with connected(endless, receive_buffer=4096, write_timeout=SHORT) as (app, client, server):
        await client.send(GET)
        seen = await app.next()
        (connection,) = connections(server)
        await happens(seen.gone)
        assert seen.dropped == "write_timeout"
        assert connection.transport.get_write_buffer_size() <= 65_536 + 1100


async def test_a_client_that_reads_slowly_is_not_dropped() -> None:
    async def big(seen: Seen, receive: Receive, send: Send) -> None:
        await reply(send, b"x" * 12_000_000)

    async with connected(big, receive_buffer=65_536, write_timeout=2.0) as (_, client, _):
        await client.send(GET)
        assert len((await client.response()).body) == 12_000_000


async def keeps_bytes(transport: asyncio.Transport) -> bool:
    """Whether something stays in our buffer although the event loop had time to write."""
    for _ in range(20):
        await asyncio.sleep(0)
    return transport.get_write_buffer_size() > 0


@asynccontextmanager
async def stuck(*fields: tuple[bytes, bytes], complete: bool = True, **options: Any) -> AsyncIterator[Server]:
    """Answer a client that does not read, until a little stays in our buffer."""

    async def answer(seen: Seen, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        (connection,) = connections(server)
        while not await keeps_bytes(connection.transport):
            await send({"type": "http.response.body", "body": b"x" * 20_000, "more_body": True})
        if complete:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        done.set()

    done = asyncio.Event()
    async with connected(answer, receive_buffer=4096, **options) as (_, client, server):
        await client.send(GET)
        await happens(done)
        (connection,) = connections(server)
        await asyncio.wait({connection._task})
        yield server


@pytest.mark.parametrize("complete", [True, False])
async def test_the_last_bytes_of_a_closing_connection_do_not_wait_forever(complete: bool) -> None:
    async with stuck((b"connection", b"close"), complete=complete, write_timeout=SHORT) as server:
        await happens(server._state.empty)


async def test_the_last_bytes_of_an_idle_connection_do_not_wait_forever() -> None:
    async with stuck(keep_alive=SHORT, write_timeout=SHORT) as server:
        await happens(server._state.empty)


async def test_the_last_bytes_do_not_hold_up_the_shutdown() -> None:
    async with stuck(write_timeout=SHORT) as server, asyncio.timeout(PATIENCE):
        assert await server.drain(60) == 0


async def test_a_client_that_reads_a_little_does_not_keep_a_closing_connection() -> None:
    async with stuck((b"connection", b"close"), write_timeout=0.2) as server:
        (connection,) = connections(server)
        connection.resume_writing()
        await happens(server._state.empty)


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


# Early answers, and bodies that nobody reads


async def test_the_rest_of_a_body_is_passed_over_after_an_early_answer() -> None:
    async def early(seen: Seen, receive: Receive, send: Send) -> None:
        await reply(send, b"no thanks")

    async with connected(early) as (app, client, _):
        await client.send(post(3_000_000) + b"a" * 10)
        assert (await client.response()).body == b"no thanks"
        await client.send(b"GET /evil HTTP/1.1\r\n\r\n" * 100)
        await client.send(b"a" * (3_000_000 - 10 - 22 * 100) + GET)
        assert (await client.response()).body == b"no thanks"
        assert [seen.scope["method"] for seen in app.seen] == ["POST", "GET"]


async def test_the_rest_of_a_chunked_body_is_passed_over_after_an_early_answer() -> None:
    async def early(seen: Seen, receive: Receive, send: Send) -> None:
        await reply(send, b"no thanks")

    async with connected(early) as (app, client, _):
        await client.send(CHUNKED + b"5\r\nhe")
        assert (await client.response()).body == b"no thanks"
        await client.send(b"llo\r\n0\r\n\r\n" + GET)
        assert (await client.response()).body == b"no thanks"
        assert [seen.scope["method"] for seen in app.seen] == ["POST", "GET"]


async def test_the_rest_of_a_body_has_a_deadline_after_an_early_answer() -> None:
    async def early(seen: Seen, receive: Receive, send: Send) -> None:
        await reply(send, b"no thanks")

    async with connected(early, keep_alive=0.2) as (_, client, _):

        async def drip() -> None:
            while True:
                await client.send(b"a")
                await asyncio.sleep(0.01)

        await client.send(post(3_000_000))
        dripping = asyncio.create_task(drip())
        assert (await client.response()).body == b"no thanks"
        assert await client.rest() == b""
        dripping.cancel()


async def test_a_bad_chunk_after_an_early_answer_only_closes() -> None:
    async def early(seen: Seen, receive: Receive, send: Send) -> None:
        await reply(send, b"no thanks")

    async with connected(early) as (_, client, _):
        await client.send(CHUNKED)
        assert (await client.response()).body == b"no thanks"
        await client.send(b"nonsense\r\n")
        assert await client.rest() == b""


async def test_an_application_that_does_not_read_stops_the_client() -> None:
    async def waits(seen: Seen, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    async with connected(waits) as (app, client, server):
        sending = asyncio.create_task(client.send(post(50_000_000) + b"a" * 50_000_000))
        await app.next()
        (connection,) = connections(server)
        await paused(connection, "reading")
        assert len(connection.cycle.body) < 600_000
        assert not sending.done()
        sending.cancel()


# Expect, HEAD, HTTP/1.0


async def test_continue_is_sent_when_the_body_is_wanted() -> None:
    async with connected() as (_, client, _):
        await client.send(post(5, b"Expect: 100-continue\r\n"))
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hello" + GET)
        assert (await client.response()).body == b"POST / hello"
        assert (await client.response()).body == b"GET / "


async def test_a_refused_expectation_closes_since_the_body_may_or_may_not_come() -> None:
    async def early(seen: Seen, receive: Receive, send: Send) -> None:
        await reply(send, b"no", 413)

    async with connected(early) as (app, client, _):
        await client.send(post(22, b"Expect: 100-continue\r\n"))
        assert (await client.response()).status == 413
        assert await client.rest() == b""
        assert len(app.seen) == 1


async def test_head_has_no_body_and_keeps_the_connection() -> None:
    async with connected() as (_, client, _):
        await client.send(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        answer = await client.response(b"HEAD")
        assert answer.header(b"content-length") == b"8"
        assert (await client.response()).body == b"GET / "


async def stream_two(seen: Seen, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"one", "more_body": True})
    await send({"type": "http.response.body", "body": b"two"})


async def stop_after_one(seen: Seen, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"one", "more_body": True})


async def test_http_1_0_gets_no_chunks() -> None:
    async with connected(stream_two) as (app, client, _):
        await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = await client.response()
        assert answer.header(b"transfer-encoding") is None
        assert answer.header(b"connection") == b"close"
        assert answer.body == b"onetwo"
        assert app.seen[0].scope["http_version"] == "1.0"


async def test_http_1_0_gets_the_length_that_is_known() -> None:
    async with connected() as (_, client, _):
        await client.send(b"HEAD / HTTP/1.0\r\nHost: x\r\n\r\n")
        assert (await client.response(b"HEAD")).header(b"content-length") == b"7"
        assert await client.rest() == b""


async def test_http_1_0_sees_an_answer_break_off_by_a_reset() -> None:
    async with connected(stop_after_one) as (_, client, _):
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        await client.rest()
        assert client.was_reset


# Honest endings


async def test_an_unfinished_stream_ends_without_the_last_chunk(caplog: pytest.LogCaptureFixture) -> None:
    async with connected(stop_after_one) as (_, client, _):
        await client.send(GET)
        answer = await client.response()
        assert (answer.body, answer.whole) == (b"one", False)
        assert client.closed
    assert caplog.records == []


async def test_an_unfinished_answer_of_known_length_ends_short(caplog: pytest.LogCaptureFixture) -> None:
    async def short(seen: Seen, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})

    async with connected(short) as (_, client, _):
        await client.send(GET)
        answer = await client.response()
        assert (answer.body, answer.whole) == (b"one", False)
    assert caplog.records == []


async def test_what_an_unfinished_stream_wrote_arrives() -> None:
    size = 3_000_000

    async def big(seen: Seen, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * size, "more_body": True})

    async with connected(big, receive_buffer=65_536) as (_, client, _):
        await client.send(GET)
        answer = await client.response()
        assert (len(answer.body), answer.whole) == (size, False)


async def test_an_application_that_fails_is_still_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(seen: Seen, receive: Receive, send: Send) -> None:
        raise LookupError("a bug")

    async with connected(broken) as (_, client, _):
        await client.send(GET)
        assert (await client.response()).status == 500
    assert [record.getMessage() for record in caplog.records] == ["Exception in ASGI application\n"]


# The log


async def test_a_refusal_is_logged_without_what_the_client_sent() -> None:
    with capture_logs() as logs:
        async with connected() as (_, client, _):
            await client.send(b"GET /\x1b[31m\xe2\x80\xa8 HTTP/1.1\r\nHost: x\r\n\r\n")
            await client.rest()
    assert logs == [
        {
            "event": "request_refused",
            "log_level": "warning",
            "status": 400,
            "reason": "bad_target",
            "error_code": "bad_target",
            "client_address": "127.0.0.1",
            "left_out": 0,
        }
    ]


def test_uvicorn_still_has_what_the_guard_builds_on() -> None:
    """A version of uvicorn that starts requests elsewhere would leave the guard out; this fails then."""
    from uvicorn.protocols.http import httptools_impl as uvicorns

    for name in ("_start_asgi_task", "on_headers_complete", "on_message_complete", "on_response_complete"):
        assert name in vars(uvicorns.HttpToolsProtocol)
        assert name in vars(GuardedProtocol)
    assert "_start_asgi_task" in uvicorns.HttpToolsProtocol.on_headers_complete.__code__.co_names
