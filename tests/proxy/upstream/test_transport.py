import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from proxy.kernel.asgi import Header
from proxy.kernel.errors import (
    BadAnswer,
    ConnectionLost,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.upstream import failures
from proxy.upstream.answer import Answer
from proxy.upstream.failures import translate
from proxy.upstream.timeouts import NEVER
from proxy.upstream.transport import Transport
from tests.support.backend import (
    Backend,
    Peer,
    Script,
    always,
    backend,
    black_hole,
    chunked,
    eventually,
    nothing_left,
    once,
    reply,
)

BOTH_LOOPS = True

QUIET = replace(NEVER, connect=10.0, first_byte=10.0, idle=10.0, write=10.0)


def get(target: bytes = b"/", *, fresh: bool = False, **timeouts: float) -> httpx.Request:
    extensions = {"target": target, "timeout": replace(QUIET, **timeouts), "fresh": fresh}
    return httpx.Request("GET", "http://b/", extensions=extensions)


async def send(transport: Transport, request: httpx.Request | None = None) -> tuple[httpx.Response, Answer]:
    response = await transport.handle_async_request(request or get())
    assert isinstance(response.stream, Answer)
    return response, response.stream


async def ask(transport: Transport, request: httpx.Request | None = None) -> tuple[bytes, bool]:
    """Return the body of the answer, and whether its connection was reused."""
    response, answer = await send(transport, request)
    return b"".join([item async for item in answer]), response.extensions["reused"]


@asynccontextmanager
async def to(script: Script, **options: Any) -> AsyncIterator[tuple[Transport, Backend]]:
    """A transport to a scripted backend; in the end nothing of either is left."""
    async with nothing_left(), backend(script) as running:
        transport = Transport(running.url, **options)
        async with transport:
            yield transport, running
        assert (transport.open, transport.idle, transport.waiting) == (0, 0, 0)


async def started(step: Awaitable[Any]) -> asyncio.Task[Any]:
    """Return a task that has run until it waits."""
    task = asyncio.ensure_future(step)
    await asyncio.sleep(0)
    assert not task.done()
    assert isinstance(task, asyncio.Task)
    return task


async def silent(peer: Peer) -> None:
    await peer.request()
    await peer.gone()


# Requests and responses


async def test_the_response_is_there_with_its_head() -> None:
    headers = [b"X-One: 1", b"x-one: 2"]
    async with to(once(reply(b"", *headers, status=b"404 What")[:-4] + b"\r\n\r\n")) as (transport, _):
        response, answer = await send(transport)
        assert response.status_code == 404
        assert response.headers.raw == [(b"x-one", b"1"), (b"x-one", b"2"), (b"content-length", b"0")]
        assert response.extensions == {"http_version": b"HTTP/1.1", "framing": "length", "reused": False}
        assert answer.ended


@pytest.mark.parametrize(
    ("response", "framing", "version"),
    [
        (chunked(b"a"), "chunked", b"HTTP/1.1"),
        (reply(b"a"), "length", b"HTTP/1.1"),
        (b"HTTP/1.1 204 x\r\n\r\n", "none", b"HTTP/1.1"),
        (b"HTTP/1.0 200 OK\r\n\r\na", "close", b"HTTP/1.0"),
    ],
)
async def test_extensions_tell_version_and_framing(response: bytes, framing: str, version: bytes) -> None:
    async with to(once(response)) as (transport, _):
        answered, answer = await send(transport)
        assert (answered.extensions["framing"], answered.extensions["http_version"]) == (framing, version)
        await answer.aclose()


async def test_redirects_are_handed_on() -> None:
    async with to(always(reply(b"", b"Location: http://elsewhere/", status=b"307 Moved"))) as (transport, running):
        response, _ = await send(transport)
        assert (response.status_code, response.headers["location"]) == (307, "http://elsewhere/")
        assert len(running.peers) == 1


async def test_what_cannot_be_sent_touches_no_connection() -> None:
    async with to(always(reply())) as (transport, running):
        with pytest.raises(httpx.LocalProtocolError):
            await send(transport, get(b"/\r\nX: y"))
        assert running.peers == []
        assert transport.open == 0


async def test_works_under_a_client_too() -> None:
    async with to(always(chunked(b"he", b"llo"))) as (transport, _), httpx.AsyncClient(transport=transport) as client:
        response = await client.post("http://b/x", json={"a": 1}, timeout=5)
        assert (response.status_code, response.content) == (200, b"hello")
        async with client.stream("GET", "http://b/") as streamed:
            assert [chunk async for chunk in streamed.aiter_raw()] == [b"he", b"llo"]
        assert transport.idle == 1


async def test_read_stands_in_for_a_first_byte_timeout_that_is_not_given() -> None:
    async with to(silent) as (transport, _):
        request = httpx.Request("GET", "http://b/", extensions={"timeout": {"read": 0.02}})
        with pytest.raises(failures.HeadTimedOut):
            await send(transport, request)


async def test_no_timeouts_at_all() -> None:
    async with to(always(reply())) as (transport, _):
        assert await ask(transport, httpx.Request("GET", "http://b/")) == (b"ok", False)


SAME: dict[str, tuple[str, list[Header], bytes | None, bytes]] = {
    "get": ("GET", [(b"host", b"b"), (b"x-a", b"1"), (b"x-b", b""), (b"x-a", b"2")], None, reply(b"hello")),
    "head": ("HEAD", [(b"host", b"b")], None, b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n"),
    "post": ("POST", [(b"host", b"b"), (b"content-length", b"3")], b"abc", chunked(b"a", b"b", b"c" * 1000)),
    "delete": ("DELETE", [(b"host", b"b"), (b"content-length", b"2")], b"{}", reply(b"")),
    "nothing": ("GET", [(b"host", b"b")], None, b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"),
    "not modified": ("GET", [(b"host", b"b")], None, b"HTTP/1.1 304 x\r\nETag: y\r\n\r\n"),
    "error": ("GET", [(b"host", b"b")], None, reply(b"no", b"Retry-After: 1", status=b"503 Busy")),
    "interim": ("GET", [(b"host", b"b")], None, b"HTTP/1.1 103 x\r\nLink: y\r\n\r\n" + reply(b"final")),
    "space around values": ("GET", [(b"host", b"b")], None, reply(b"a", b"X:  \t y \t ", b"Y:")),
    "duplicates": ("GET", [(b"host", b"b")], None, reply(b"a", b"Set-Cookie: a", b"X: 1", b"Set-Cookie: b")),
    "compressed": ("GET", [(b"host", b"b")], None, reply(b"\x1f\x8b-not-really", b"Content-Encoding: gzip")),
    "trailers": ("GET", [(b"host", b"b")], None, chunked(b"a", end=b"0\r\nX: late\r\n\r\n")),
}


@pytest.mark.parametrize("case", SAME)
async def test_same_bytes_out_and_same_answer_in_as_httpx(case: str) -> None:
    method, headers, body, response = SAME[case]
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            seen.append(await peer.request())
            await peer.send(response)

    async with to(script) as (ours, running), httpx.AsyncHTTPTransport() as theirs:
        answers: list[tuple[int, list[Header], bytes]] = []
        for transport in (ours, theirs):
            for _ in range(2):
                request = httpx.Request(
                    method,
                    running.url,
                    headers=headers,
                    stream=httpx.ByteStream(body or b""),
                    extensions={"target": b"/a//b/../c?x=%2f", "timeout": QUIET},
                )
                answer = await transport.handle_async_request(request)
                assert isinstance(answer.stream, httpx.AsyncByteStream)
                raw = b"".join([part async for part in answer.stream])
                await answer.stream.aclose()
                lower = [(name.lower(), value) for name, value in answer.headers.raw]
                answers.append((answer.status_code, lower, raw))
    assert answers[0] == answers[1] == answers[2] == answers[3]
    assert seen[0] == seen[1] == seen[2] == seen[3]


# Keeping connections


async def test_a_connection_is_used_again() -> None:
    async with to(always(reply())) as (transport, running):
        assert [await ask(transport) for _ in range(3)] == [(b"ok", False), (b"ok", True), (b"ok", True)]
        assert len(running.peers) == 1


async def test_fresh_is_never_a_used_one() -> None:
    async with to(always(reply())) as (transport, running):
        await ask(transport)
        assert await ask(transport, get(fresh=True)) == (b"ok", False)
        assert len(running.peers) == 2
        assert transport.idle == 2


async def test_the_one_used_last_is_used_first() -> None:
    peers: list[Peer] = []

    async def script(peer: Peer) -> None:
        peers.append(peer)
        while True:
            await peer.request()
            await peer.send(reply(b"%d" % peers.index(peer)))

    async with to(script) as (transport, _):
        await asyncio.gather(ask(transport), ask(transport))
        assert transport.idle == 2
        assert len({await ask(transport) for _ in range(4)}) == 1


async def test_no_more_are_kept_than_allowed() -> None:
    async with to(always(reply()), max_idle=2) as (transport, running):
        await asyncio.gather(*(ask(transport) for _ in range(5)))
        assert len(running.peers) == 5
        await running.until(lambda: len(running.scripts) == 2)
        assert (transport.open, transport.idle) == (2, 2)


async def test_kept_connections_expire() -> None:
    hung_up: list[str] = []
    async with to(always(reply()), idle_expiry=0.02) as (transport, running):
        transport.on_hung_up = lambda: hung_up.append("by the backend")
        await ask(transport)
        await running.all_gone()
        await eventually(lambda: transport.open == 0)
    assert not hung_up


async def test_a_kept_connection_that_the_backend_closes_is_dropped_at_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply())

    hung_up: list[str] = []
    async with to(script) as (transport, running):
        transport.on_hung_up = lambda: hung_up.append("by the backend")
        for number in range(3):
            assert await ask(transport) == (b"ok", False)
            await running.all_gone()
            await eventually(lambda: transport.open == 0)
            assert len(hung_up) == number + 1


async def test_a_kept_connection_closed_under_the_request_says_that_it_was_reused() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply())
        await peer.request()

    async with to(script) as (transport, _):
        await ask(transport)
        with pytest.raises(httpx.ReadError) as caught:
            await ask(transport)
        lost = translate(caught.value)
        assert isinstance(lost, ConnectionLost)
        assert (lost.reused, lost.sent, lost.received) == (True, True, False)
        assert await ask(transport, get(fresh=True)) == (b"ok", False)


async def test_unasked_bytes_on_a_kept_connection_drop_it() -> None:
    told = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply())
        await told.wait()
        await peer.send(reply(b"poison"))
        await peer.gone()

    async with to(script) as (transport, running):
        await ask(transport)
        told.set()
        await running.all_gone()
        await eventually(lambda: transport.open == 0)
        assert await ask(transport) == (b"ok", False)


async def test_bytes_that_come_with_an_answer_do_not_reach_the_next_one() -> None:
    async with to(once(reply(b"mine") + reply(b"poison"))) as (transport, running):
        assert await ask(transport) == (b"mine", False)
        assert await ask(transport) == (b"mine", False)
        assert len(running.peers) == 2


async def test_an_answer_read_late_does_not_disturb_the_next_user_of_its_connection() -> None:
    async with to(always(reply(b"x" * 50_000))) as (transport, _):
        _, first = await send(transport)
        await eventually(lambda: transport.idle == 1)
        response, second = await send(transport)
        assert response.extensions["reused"]
        await first.aclose()
        assert b"".join([item async for item in second]) == b"x" * 50_000


# No more connections than allowed


async def test_requests_beyond_the_bound_wait_in_order() -> None:
    order: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            order.append((await peer.request()).split(b" ")[1])
            await peer.send(reply())

    async with to(script, max_connections=1) as (transport, running):
        targets = [b"/%d" % number for number in range(30)]
        await asyncio.gather(*(ask(transport, get(target)) for target in targets))
        assert order == targets
        assert len(running.peers) == 1
        assert (transport.open, transport.idle) == (1, 1)


async def test_waiting_has_its_own_time() -> None:
    async with to(silent, max_connections=1) as (transport, _):
        first = await started(ask(transport))
        with pytest.raises(failures.NoConnectionFree, match=r"free for 0\.02 s") as caught:
            await ask(transport, get(connect=0.02))
        assert not caught.value.sent
        assert (transport.open, transport.waiting) == (1, 0)
        first.cancel()


async def test_a_place_that_comes_free_goes_to_the_one_who_waits_longest() -> None:
    order: list[bytes] = []

    async def script(peer: Peer) -> None:
        target = (await peer.request()).split(b" ")[1]
        order.append(target)
        await peer.send(chunked(end=b"") if target == b"/held" else reply(b"ok", b"Connection: close"))
        await peer.gone()

    async with to(script, max_connections=1) as (transport, running):
        _, held = await send(transport, get(b"/held"))
        waiting = [await started(ask(transport, get(target))) for target in (b"/a", b"/b", b"/c")]
        assert transport.waiting == 3
        await held.aclose()
        assert await asyncio.gather(*waiting) == [(b"ok", False)] * 3
        assert order == [b"/held", b"/a", b"/b", b"/c"]
        assert len(running.peers) == 4


async def test_a_fresh_one_takes_the_place_of_a_kept_one() -> None:
    async with to(always(reply()), max_connections=2) as (transport, running):
        await asyncio.gather(ask(transport), ask(transport))
        assert transport.idle == 2
        assert await ask(transport, get(fresh=True)) == (b"ok", False)
        assert transport.open == 2
        assert len(running.peers) == 3


async def test_a_fresh_one_waits_for_a_place_and_others_may_pass_it_with_kept_ones() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            if b"/slow" in request:
                await go.wait()
            await peer.send(reply())

    async with to(script, max_connections=1) as (transport, running):
        slow = await started(ask(transport, get(b"/slow")))
        await running.until(lambda: len(running.peers) == 1)
        fresh = await started(ask(transport, get(fresh=True)))
        plain = await started(ask(transport))
        assert transport.waiting == 2
        go.set()
        assert await slow == (b"ok", False)
        assert await fresh == (b"ok", False)
        assert await plain == (b"ok", True)
        assert len(running.peers) == 2


async def test_a_failed_attempt_gives_its_place_on() -> None:
    async with backend(always(reply())) as gone:
        url = gone.url
    async with nothing_left(), Transport(url, max_connections=1) as transport:
        results = await asyncio.gather(*(ask(transport) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(result, httpx.ConnectError) for result in results)
        assert (transport.open, transport.waiting) == (0, 0)


async def test_cancelled_waiters_leave_no_trace() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await go.wait()
            await peer.send(reply())

    async with to(script, max_connections=1) as (transport, _):
        first = await started(ask(transport))
        tasks = [await started(ask(transport, get(fresh=number % 2 == 0))) for number in range(10)]
        for task in tasks[:9]:
            task.cancel()
            task.cancel()
        await asyncio.gather(*tasks[:9], return_exceptions=True)
        assert transport.waiting == 1
        go.set()
        assert await first == (b"ok", False)
        assert await tasks[9] == (b"ok", True)
        assert transport.open == 1


async def test_a_connection_granted_to_a_request_that_is_being_cancelled_is_not_lost() -> None:
    async with to(always(reply()), max_connections=1) as (transport, _):
        _, answer = await send(transport)
        release = transport.release
        victim: list[asyncio.Task[Any]] = []

        def release_and_cancel(connection: Any) -> None:
            release(connection)
            victim[0].cancel()

        transport.release = release_and_cancel  # type: ignore[method-assign]  # to hit the moment between the two
        victim.append(asyncio.create_task(ask(transport)))
        waiting = asyncio.create_task(ask(transport))
        with pytest.raises(asyncio.CancelledError):
            await victim[0]
        transport.release = release  # type: ignore[method-assign]
        async with asyncio.timeout(5):
            await waiting
        assert transport.open == 1
        await answer.aclose()


async def test_a_place_granted_to_a_request_that_is_being_cancelled_is_not_lost() -> None:
    async with to(silent, max_connections=1) as (transport, _):
        first = await started(ask(transport))
        await eventually(lambda: transport.open == 1)
        victim = await started(ask(transport))
        lost = transport.lost

        def lost_and_cancel(connection: Any) -> None:
            lost(connection)
            victim.cancel()

        transport.lost = lost_and_cancel  # type: ignore[method-assign]  # to hit the moment between the two
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await victim
        transport.lost = lost  # type: ignore[method-assign]
        assert (transport.open, transport.waiting) == (0, 0)


# Cancelling


@pytest.mark.parametrize("twice", [False, True])
async def test_cancelled_while_connecting(twice: bool) -> None:
    async with black_hole() as url, nothing_left(), Transport(url) as transport:
        task = await started(ask(transport))
        await eventually(lambda: "1 connecting" in repr(transport))
        await cancel(task, twice)
        assert transport.open == 0


@pytest.mark.parametrize("twice", [False, True])
async def test_cancelled_while_shaking_hands(twice: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    async with nothing_left(), backend(script) as running, secure(running) as transport:
        task = await started(ask(transport))
        await running.until(lambda: len(running.peers) == 1)
        await cancel(task, twice)
        await running.all_gone()
        assert transport.open == 0


@pytest.mark.parametrize("twice", [False, True])
async def test_cancelled_while_waiting_for_the_head(twice: bool) -> None:
    async with to(silent) as (transport, running):
        task = await started(ask(transport))
        await running.until(lambda: len(running.peers) == 1)
        await cancel(task, twice)
        await running.all_gone()
        assert transport.open == 0


@pytest.mark.parametrize("twice", [False, True])
async def test_cancelled_in_the_middle(twice: bool) -> None:
    async with to(once(chunked(b"a", end=b""))) as (transport, running):
        _, answer = await send(transport)
        assert await answer.read() == b"a"
        await cancel(await started(answer.read()), twice)
        await running.all_gone()
        assert transport.open == 0


async def test_a_deadline_above_is_a_cancel() -> None:
    async with to(silent) as (transport, running):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await ask(transport)
        await running.all_gone()


def secure(running: Backend) -> Transport:
    return Transport(running.url.replace("http:", "https:"))


async def cancel(task: asyncio.Task[Any], twice: bool) -> None:
    task.cancel()
    if twice:
        asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


# Connecting


async def test_connecting_has_its_own_time() -> None:
    async with black_hole() as url, nothing_left(), Transport(url) as transport:
        with pytest.raises(failures.ConnectTimedOut, match=r"within 0\.02 s") as caught:
            await ask(transport, get(connect=0.02))
        assert (caught.value.timer, caught.value.sent) == ("connect", False)
        assert transport.open == 0


async def test_shaking_hands_counts_as_connecting() -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    async with nothing_left(), backend(script) as running, secure(running) as transport:
        with pytest.raises(failures.ConnectTimedOut):
            await ask(transport, get(connect=0.05))
        await running.all_gone()


# Closing


async def test_closing_ends_everything() -> None:
    async with to(silent, max_connections=2) as (transport, running):
        tasks = [await started(ask(transport)) for _ in range(4)]
        await eventually(lambda: "2 in use" in repr(transport))
        assert transport.waiting == 2
        await transport.aclose()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [failures.Disconnected] * 2 + [failures.NotConnected] * 2
        assert (transport.open, transport.waiting) == (0, 0)
        await running.all_gone()
        with pytest.raises(failures.NotConnected, match="is closed"):
            await ask(transport)
        await transport.aclose()


async def test_closing_ends_attempts() -> None:
    async with black_hole() as url, nothing_left():
        transport = Transport(url)
        task = await started(ask(transport))
        await eventually(lambda: "1 connecting" in repr(transport))
        async with asyncio.timeout(5):
            await transport.aclose()
        with pytest.raises(failures.NotConnected, match="is closed"):
            await task


async def test_closing_breaks_a_stream_with_an_error_of_the_transport() -> None:
    async with to(once(chunked(b"a", end=b""))) as (transport, _):
        _, answer = await send(transport)
        assert await answer.read() == b"a"
        await transport.aclose()
        with pytest.raises(httpx.TransportError):
            await answer.read()


async def test_closing_what_was_never_used() -> None:
    await Transport("http://127.0.0.1:1").aclose()


async def test_repr_tells_what_is_going_on() -> None:
    async with to(always(chunked(b"a")), max_connections=1) as (transport, running):
        assert repr(transport) == f"<Transport {running.url}: 0 in use, 0 idle, 0 connecting, 0 waiting>"
        await ask(transport)
        assert repr(transport) == f"<Transport {running.url}: 0 in use, 1 idle, 0 connecting, 0 waiting>"
    assert repr(transport).startswith(f"<Transport {running.url} closed: 0 in use")
    async with to(silent, max_connections=1) as (transport, running):
        first = await started(ask(transport))
        second = await started(ask(transport))
        assert repr(transport) == f"<Transport {running.url}: 0 in use, 0 idle, 1 connecting, 1 waiting>"
        await running.until(lambda: len(running.peers) == 1)
        await eventually(lambda: "0 connecting" in repr(transport))
        assert repr(transport) == f"<Transport {running.url}: 1 in use, 0 idle, 0 connecting, 1 waiting>"
        second.cancel()
        first.cancel()


@pytest.mark.parametrize(
    ("script", "kind", "patience"),
    [
        (once(b"junk\r\n\r\n"), BadAnswer, 10.0),
        (once(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), BadAnswer, 10.0),
        (silent, UpstreamTimeout, 0.05),
    ],
)
@pytest.mark.parametrize("make", [Transport, lambda _url: httpx.AsyncHTTPTransport()])
async def test_both_transports_fail_alike(
    script: Script, kind: type[UpstreamError], patience: float, make: Callable[[str], httpx.AsyncBaseTransport]
) -> None:
    async with backend(script) as running, make(running.url) as transport:
        request = httpx.Request(
            "GET", running.url, headers={"host": "b"}, extensions={"timeout": {"connect": 10.0, "read": patience}}
        )
        with pytest.raises(httpx.TransportError) as caught:
            await transport.handle_async_request(request)
        assert type(translate(caught.value)) is kind
