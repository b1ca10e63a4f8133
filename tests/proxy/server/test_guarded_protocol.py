"""proxy/server/guarded_protocol.py, over real sockets: disconnects, slow clients, endings.

What it refuses by its form stands in tests/live/test_framing.py.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from proxy.kernel.asgi import Receive, Send
from proxy.kernel.server_extensions import when_gone
from proxy.server.server import Server
from tests.support.guarded import CHUNKED, GET, SHORT, connected, connections, endless, happens, paused, post
from tests.support.raw import PATIENCE, Raw, Seen, reply, wait_for_disconnect

BOTH_LOOPS = True


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
