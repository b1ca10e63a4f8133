import asyncio
import gc
import inspect
import math
import os
import socket
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import cast

import httpx
import pytest

from proxy.kernel.asgi import Header
from proxy.upstream.answer import BEHIND, Answer
from proxy.upstream.connection import Bounds, Connection
from proxy.upstream.failures import (
    BadResponse,
    CutShort,
    Disconnected,
    HeadTimedOut,
    IdleTimedOut,
    TransportFailure,
    Unsendable,
    WriteTimedOut,
)
from proxy.upstream.request_bytes import encode
from proxy.upstream.timeouts import NEVER, Timeouts
from tests.support.backend import (
    Backend,
    Peer,
    Script,
    always,
    backend,
    chunked,
    eventually,
    nothing_left,
    once,
    reply,
)
from tests.support.faketime import FakeLoop

BOTH_LOOPS = True

READ_AT_ONCE = 256 * 1024
"""What the loops read from a socket at most."""


class Keeper:
    """Owns connections and notes what becomes of them."""

    def __init__(self) -> None:
        self.released = 0
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def release(self, connection: Connection) -> None:
        self.released += 1

    def lost(self, connection: Connection) -> None:
        self.gone.set_result(None)


class Line:
    """A connection to a scripted backend, and a short way to use it."""

    def __init__(self, keeper: Keeper, connection: Connection, running: Backend) -> None:
        self.keeper = keeper
        self.connection = connection
        self.backend = running

    @property
    def peer(self) -> Peer:
        return self.backend.peers[0]

    async def ask(
        self,
        method: str = "POST",
        body: bytes | httpx.AsyncByteStream = b"",
        headers: list[Header] | None = None,
        timeouts: Timeouts | None = None,
    ) -> Answer:
        if headers is None:
            length = len(body) if isinstance(body, bytes) else None
            chunks = (b"transfer-encoding", b"chunked")
            headers = [chunks if length is None else (b"content-length", b"%d" % length)]
        stream = httpx.ByteStream(body) if isinstance(body, bytes) else body
        request = httpx.Request(method, "http://b/", headers=headers, stream=stream)
        async with asyncio.timeout(10):
            return await self.connection.exchange(encode(request), timeouts or NEVER)

    async def read(self, **options: object) -> list[bytes]:
        """Return the items of the answer to one request."""
        answer = await self.ask(**options)  # type: ignore[arg-type]  # those of `ask`
        return [item async for item in answer]

    async def closed(self) -> None:
        """Wait until the socket is closed; the backend must notice."""
        async with asyncio.timeout(10):
            await self.keeper.gone
        assert self.connection.closed
        await self.backend.all_gone()


@asynccontextmanager
async def line(script: Script, *, idle_expiry: float = math.inf, limit: int = 2**24) -> AsyncIterator[Line]:
    async with nothing_left(), backend(script, limit=limit) as running:
        loop = asyncio.get_running_loop()
        keeper = Keeper()
        connection = Connection(keeper, Bounds(64 * 1024, 100, idle_expiry), loop)
        host, port = running.url.removeprefix("http://").split(":")
        await loop.create_connection(lambda: connection, host, int(port))
        try:
            yield Line(keeper, connection, running)
        finally:
            connection.abort()
            await keeper.gone


class Pieces(httpx.AsyncByteStream):
    """A streamed body; notes how much of it was taken, and whether it was closed."""

    def __init__(self, *pieces: bytes, then: Callable[[], Exception] | None = None, wait: bool = False) -> None:
        self._pieces = pieces
        self._then = then
        self._wait = wait
        self.taken = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            for piece in self._pieces:
                self.taken += 1
                yield piece
            if self._then is not None:
                raise self._then()
            if self._wait:
                await asyncio.get_running_loop().create_future()
        finally:
            self.closed = True


class Endless(httpx.AsyncByteStream):
    """A streamed body without end."""

    def __init__(self) -> None:
        self.taken = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        piece = b"x" * 65536
        try:
            while True:
                self.taken += len(piece)
                yield piece
        finally:
            self.closed = True


# One request after the other


async def test_requests_follow_one_another_on_one_connection() -> None:
    async with line(always(reply(b"ok"))) as on:
        for number in range(3):
            answer = await on.ask(body=b"x" * number)
            assert answer.reused == (number > 0)
            assert [item async for item in answer] == [b"ok"]
            assert answer.ended
        assert on.keeper.released == 3
        assert len(on.backend.peers) == 1


async def test_is_free_as_soon_as_the_answer_is_in_even_if_nobody_reads_it() -> None:
    async with line(always(reply(b"x" * 10_000))) as on:
        answer = await on.ask()
        await eventually(lambda: on.keeper.released == 1)
        assert b"".join([item async for item in answer]) == b"x" * 10_000


@pytest.mark.parametrize(
    "response",
    [
        reply(b"ok", b"Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        reply(b"ok") + b"surplus",
        reply(b"ok") + reply(b"twice"),
    ],
)
async def test_is_closed_where_it_cannot_be_trusted_with_another(response: bytes) -> None:
    async with line(once(response)) as on:
        assert await on.read() == [b"ok"]
        await on.closed()
        assert on.keeper.released == 0


@pytest.mark.parametrize("late", [b"x", reply(b"late"), b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
async def test_bytes_nobody_asked_for_close_it(late: bytes) -> None:
    told = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply())
        await told.wait()
        await peer.send(late)
        await peer.gone()

    async with line(script) as on:
        assert await on.read() == [b"ok"]
        assert on.keeper.released == 1
        told.set()
        await on.closed()


async def test_bytes_before_the_first_request_close_it() -> None:
    async def script(peer: Peer) -> None:
        await peer.send(reply())
        await peer.gone()

    async with line(script) as on:
        await on.closed()


@pytest.mark.parametrize("how", ["finish", "reset"])
async def test_is_closed_when_the_backend_closes_it_at_rest(how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply())
        if how == "reset":
            await told.wait()
            peer.reset()
        else:
            peer.finish()
            await peer.gone()

    told = asyncio.Event()
    async with line(script) as on:
        assert await on.read() == [b"ok"]
        told.set()
        await on.closed()


async def test_is_closed_after_its_rest() -> None:
    async with line(always(reply()), idle_expiry=0.02) as on:
        assert await on.read() == [b"ok"]
        await on.closed()


async def test_given_up_before_it_is_connected_it_leaves_nothing_to_collect() -> None:
    connection = Connection(Keeper(), Bounds(2**16, 100, 30.0), asyncio.get_running_loop())
    left = weakref.ref(connection)
    gc.disable()
    try:
        connection.abort()
        del connection
        assert left() is None
    finally:
        gc.enable()


async def test_nodelay_is_set() -> None:
    async with line(always(reply())) as on:
        assert await on.read() == [b"ok"]
        transport = on.connection._transport
        assert transport is not None
        assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# How answers end


@pytest.mark.parametrize("how", ["finish", "reset"])
async def test_closed_before_the_answer(how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        getattr(peer, how)()
        await peer.gone()

    async with line(script) as on:
        with pytest.raises(Disconnected, match="before it answered") as caught:
            await on.ask(body=b"x")
        error = caught.value
        assert (error.sent, error.received, error.reused) == (True, False, False)
        await on.closed()


async def test_closed_under_a_reused_connection_is_told_apart() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply())
        await peer.request()

    async with line(script) as on:
        assert await on.read() == [b"ok"]
        with pytest.raises(Disconnected) as caught:
            await on.ask()
        assert (caught.value.reused, caught.value.received) == (True, False)


async def test_closed_in_the_head() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nConte")

    async with line(script) as on:
        with pytest.raises(Disconnected) as caught:
            await on.ask()
        assert caught.value.received


@pytest.mark.parametrize(
    ("response", "items", "message"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", [b"hell"], "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", [], "Content-Length"),
        (chunked(b"a", b"b", end=b""), [b"a", b"b"], "last chunk"),
        (chunked(b"a", end=b"5\r\nhell"), [b"a"], "last chunk"),
        (chunked(b"a", end=b"0\r\n"), [b"a"], "last chunk"),
    ],
)
async def test_cut_answers(response: bytes, items: list[bytes], message: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(response)

    async with line(script) as on:
        answer = await on.ask()
        assert [await answer.read() for _ in items] == items
        with pytest.raises(CutShort, match=message) as caught:
            await answer.read()
        assert (caught.value.sent, caught.value.received) == (True, True)
        await on.closed()


@pytest.mark.parametrize(
    "response", [chunked(b"a", end=b""), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", b"HTTP/1.1 200 OK\r\n\r\na"]
)
async def test_reset_answers(response: bytes) -> None:
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(response)
        await arrived.wait()
        peer.reset()

    async with line(script) as on:
        answer = await on.ask()
        assert await answer.read() == b"a"
        arrived.set()
        with pytest.raises(Disconnected, match="in the middle of its answer") as caught:
            await answer.read()
        assert caught.value.received
        await on.closed()


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_until_the_connection_closes(version: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/" + version + b" 200 OK\r\n\r\n", b"some", b"thing")

    async with line(script) as on:
        answer = await on.ask()
        assert answer.framing == "close"
        assert b"".join([item async for item in answer]) == b"something"
        assert answer.ended
        await on.closed()


async def test_bad_answer_closes_it_behind_what_came_before() -> None:
    async with line(once(chunked(b"a", b"b", end=b"junk"))) as on:
        answer = await on.ask()
        assert [await answer.read(), await answer.read()] == [b"a", b"b"]
        with pytest.raises(BadResponse):
            await answer.read()
        await on.closed()


async def test_bad_head_closes_it() -> None:
    async with line(once(b"SSH-2.0-OpenSSH_9.2\r\n")) as on:
        with pytest.raises(BadResponse, match="does not begin with HTTP/"):
            await on.ask()
        await on.closed()


async def test_answer_to_head() -> None:
    async with line(always(b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n")) as on:
        for _ in range(2):
            answer = await on.ask("HEAD", headers=[])
            assert answer.ended
            assert answer.headers == [(b"content-length", b"17")]
        assert on.keeper.released == 2


# Closing early


@pytest.mark.parametrize("how", ["aclose", "cancel", "double cancel"])
async def test_leaving_an_answer_closes_the_connection(how: str) -> None:
    async with line(once(chunked(b"a", end=b""))) as on:
        answer = await on.ask()
        assert await answer.read() == b"a"
        if how == "aclose":
            await answer.aclose()
        else:
            reader = asyncio.create_task(answer.read())
            await asyncio.sleep(0)
            reader.cancel()
            if how == "double cancel":
                asyncio.get_running_loop().call_soon(reader.cancel)
            with pytest.raises(asyncio.CancelledError):
                await reader
        await on.closed()
        assert on.keeper.released == 0


@pytest.mark.parametrize("body", [b"", Pieces(b"abc")], ids=["plain", "upload"])
@pytest.mark.parametrize("twice", [False, True])
async def test_cancelled_before_the_head(body: bytes | Pieces, twice: bool) -> None:
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.gone()

    async with line(script) as on:
        task = asyncio.create_task(on.ask(body=body))
        await asked.wait()
        task.cancel()
        if twice:
            asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        await on.closed()


@pytest.mark.parametrize("endless", [False, True], ids=["for its source", "for the backend"])
@pytest.mark.parametrize("twice", [False, True])
async def test_cancelled_while_the_upload_waits(twice: bool, endless: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await released.wait()
        await peer.gone()

    released = asyncio.Event()
    body = Endless() if endless else Pieces(b"abc", wait=True)
    async with line(script) as on:
        task = asyncio.create_task(on.ask(body=body))
        await eventually(lambda: on.connection._blocked if endless else body.taken == 1)
        task.cancel()
        if twice:
            asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        released.set()
        await on.closed()
    await eventually(lambda: body.closed)


async def test_cancelled_while_an_early_answer_waits_for_the_upload_to_stop() -> None:
    stopping, stopped = asyncio.Event(), asyncio.Event()

    async def reluctant() -> AsyncIterator[bytes]:
        try:
            yield b"abc"
            await asyncio.get_running_loop().create_future()
        finally:
            stopping.set()
            await stopped.wait()

    class Reluctant(httpx.AsyncByteStream):
        def __aiter__(self) -> AsyncIterator[bytes]:
            return reluctant()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(chunked(end=b""))
        await peer.gone()

    async with line(script) as on:
        task = asyncio.create_task(on.ask(body=Reluctant()))
        await stopping.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await on.closed()
        stopped.set()


# Uploads


@pytest.mark.parametrize("loop_size", [1, 100, 70_000])
async def test_upload_in_chunks(loop_size: int) -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(reply())
        await peer.gone()

    pieces = [os.urandom(loop_size), b"", b"end"]
    async with line(script) as on:
        assert await on.read(body=Pieces(*pieces)) == [b"ok"]
        assert on.keeper.released == 1
    head = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
    assert seen == [head + b"%x\r\n" % loop_size + pieces[0] + b"\r\n3\r\nend\r\n0\r\n\r\n"]


async def test_upload_with_its_length() -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(reply())
        await peer.gone()

    async with line(script) as on:
        body = Pieces(b"ab", b"", b"c")
        assert await on.read(body=body, headers=[(b"content-length", b"3")]) == [b"ok"]
        assert on.keeper.released == 1
        assert body.closed
    assert seen == [b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc"]


@pytest.mark.parametrize(("length", "message"), [(b"2", "longer"), (b"4", "1 bytes before")])
async def test_upload_that_breaks_its_promise(length: bytes, message: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.gone()

    async with line(script) as on:
        with pytest.raises(Unsendable, match=message) as caught:
            await on.ask(body=Pieces(b"ab", b"c"), headers=[(b"content-length", length)])
        assert caught.value.sent
        await on.closed()


async def test_failure_of_the_source_is_raised_unchanged_and_closes_the_connection() -> None:
    class Gone(Exception):
        pass

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.gone()

    async with line(script) as on:
        body = Pieces(b"abc", then=Gone)
        with pytest.raises(Gone):
            await on.ask(body=body)
        assert body.closed
        await on.closed()


async def test_a_source_that_cancels_itself_does_not_leave_the_request_hanging() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.gone()

    async with line(script) as on:
        with pytest.raises(Unsendable, match="was cancelled"):
            await on.ask(body=Pieces(b"abc", then=asyncio.CancelledError))  # type: ignore[arg-type]  # no Exception
        await on.closed()


async def test_upload_stops_at_the_pace_of_the_backend_and_goes_on_with_it() -> None:
    go = asyncio.Event()
    size = 64 * 1024 * 1024

    async def script(peer: Peer) -> None:
        await peer.head()
        await go.wait()
        await peer.reader.readexactly(size)
        await peer.send(reply())
        await peer.gone()

    body = Pieces(*[b"x" * 2**18] * (size // 2**18))
    async with line(script, limit=2**16) as on:
        asking = asyncio.create_task(on.read(body=body, headers=[(b"content-length", b"%d" % size)]))
        await eventually(lambda: on.connection._blocked)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert body.taken * 2**18 < size // 2
        go.set()
        assert await asking == [b"ok"]
        assert body.taken == size // 2**18
        assert on.keeper.released == 1


@pytest.mark.parametrize("response", [reply(b"no", status=b"413 Too Large"), chunked(b"no")])
@pytest.mark.parametrize("endless", [False, True], ids=["source is slow", "backend does not read"])
async def test_early_answer_is_delivered_and_ends_the_upload(response: bytes, endless: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(response)
        await peer.gone()

    body = Endless() if endless else Pieces(b"abc", wait=True)
    async with line(script) as on:
        assert await on.read(body=body) == [b"no"]
        assert body.closed
        await on.closed()
        assert on.keeper.released == 0


async def test_early_answer_that_goes_on_for_long_is_read_to_its_end() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(chunked(b"a", end=b""))
        await peer.send(b"1\r\nb\r\n", b"0\r\n\r\n")
        await peer.gone()

    async with line(script) as on:
        assert await on.read(body=Endless()) == [b"a", b"b"]
        await on.closed()


async def test_connection_lost_while_uploading() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.reset()

    async with line(script) as on:
        body = Endless()
        with pytest.raises(Disconnected):
            await on.ask(body=body)
        assert body.closed
        await on.closed()


async def test_large_body_is_sent_whole_while_the_answer_is_awaited() -> None:
    body = os.urandom(8 * 1024 * 1024)
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append((await peer.request()).partition(b"\r\n\r\n")[2])
        await peer.send(reply())
        await peer.gone()

    async with line(script) as on:
        assert await on.read(body=body) == [b"ok"]
        assert on.keeper.released == 1
    assert seen == [body]


async def test_early_answer_to_a_body_that_is_not_all_sent() -> None:
    async with line(always_early(reply(b"no"))) as on:
        assert await on.read(body=b"x" * (64 * 1024 * 1024)) == [b"no"]
        await on.closed()
        assert on.keeper.released == 0


def always_early(response: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(response)
        await peer.gone()

    return script


# A reader that is slow


async def test_reading_stops_with_a_slow_reader_and_nothing_is_lost() -> None:
    chunk = os.urandom(10_000)
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(chunked(end=b""))
        for _ in range(2000):
            await peer.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            sent += 1
        await peer.send(b"0\r\n\r\n")
        await peer.gone()

    async with line(script) as on:
        answer = await on.ask()
        await eventually(lambda: on.connection._paused)
        assert sent < 2000
        assert answer._waiting <= BEHIND + 2 * READ_AT_ONCE
        assert [item async for item in answer] == [chunk] * 2000
        assert on.keeper.released == 1


async def test_leaving_while_reading_is_paused() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(end=b""))
        while True:
            await peer.send(b"400\r\n" + b"x" * 1024 + b"\r\n")

    async with line(script) as on:
        answer = await on.ask()
        await eventually(lambda: on.connection._paused)
        await answer.aclose()
        await on.closed()


# The clock


async def test_no_head_in_time() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n")  # a part of it does not count
        await peer.gone()

    async with line(script) as on:
        with pytest.raises(HeadTimedOut, match=r"did not answer within 0\.02 s") as caught:
            await on.ask(timeouts=replace(NEVER, first_byte=0.02, idle=0.001, write=0.001))
        assert (caught.value.timer, caught.value.sent) == ("first_byte", True)
        await on.closed()


async def test_interim_responses_are_no_head() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        await peer.gone()

    async with line(script) as on:
        with pytest.raises(HeadTimedOut):
            await on.ask(timeouts=replace(NEVER, first_byte=0.02, idle=0.001))
        await on.closed()


@pytest.mark.parametrize("response", [chunked(b"a", end=b""), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na"])
async def test_silence_in_the_middle(response: bytes) -> None:
    async with line(once(response)) as on:
        answer = await on.ask(timeouts=replace(NEVER, first_byte=0.001 + 10, idle=0.02, write=0.001))
        assert await answer.read() == b"a"
        with pytest.raises(IdleTimedOut, match=r"nothing for 0\.02 s") as caught:
            await answer.read()
        assert (caught.value.timer, caught.value.received) == ("idle", True)
        await on.closed()


async def test_silence_right_after_the_head() -> None:
    async with line(once(chunked(end=b""))) as on:
        answer = await on.ask(timeouts=replace(NEVER, idle=0.02))
        with pytest.raises(IdleTimedOut):
            await answer.read()


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_backend_that_takes_nothing(streamed: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await told.wait()
        await peer.gone()

    told = asyncio.Event()
    async with line(script) as on:
        body = Endless() if streamed else b"x" * (64 * 1024 * 1024)
        with pytest.raises(WriteTimedOut, match=r"took nothing of the request for 0\.05 s") as caught:
            await on.ask(body=body, timeouts=replace(NEVER, first_byte=0.04, write=0.05))
        assert (caught.value.timer, caught.value.sent) == ("write", True)
        told.set()
        await on.closed()


# The clock, with time that moves when we say so


class FakeSocket:
    """As much of an asyncio transport as a connection looks at."""

    def __init__(self) -> None:
        self.unsent = 0
        self.aborted = False

    def set_write_buffer_limits(self, high: int, low: int) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.aborted

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None:
        self.aborted = True


class Keeping:
    """An owner that keeps everything."""

    def release(self, connection: Connection) -> None: ...
    def lost(self, connection: Connection) -> None: ...


class Clockwork:
    """A connection to a fake socket, under a fake clock."""

    def __init__(self, *, idle_expiry: float = math.inf) -> None:
        self.loop = FakeLoop()
        self.socket = FakeSocket()
        self.connection = Connection(Keeping(), Bounds(64 * 1024, 100, idle_expiry), self.loop.as_loop())
        self.connection.connection_made(cast(asyncio.Transport, self.socket))

    def ask(self, *, unsent: int = 0, **timeouts: float) -> Answer:
        """Begin an exchange, as far as it comes without an answer; the kernel leaves `unsent` bytes of it."""
        request = httpx.Request("GET", "http://b/")
        self.exchange = self.connection.exchange(encode(request), replace(NEVER, **timeouts))
        self.exchange.send(None)
        if unsent:
            self.socket.unsent = unsent
            self.connection.pause_writing()
        assert self.connection._answer is not None
        return self.connection._answer

    def hear(self, data: bytes) -> None:
        """Receive `data`; the task that waits for the head runs, if there is one."""
        self.connection.data_received(data)
        if inspect.getcoroutinestate(self.exchange) != inspect.CORO_CLOSED:
            with suppress(StopIteration):
                self.exchange.send(None)

    def take(self, unsent: int) -> None:
        """The kernel has taken all but `unsent` bytes."""
        self.socket.unsent = unsent
        if not unsent:
            self.connection.resume_writing()


def failure(answer: Answer) -> Exception | None:
    return answer._error


def test_the_head_is_awaited_from_the_end_of_the_request() -> None:
    line = Clockwork()
    answer = line.ask(first_byte=10, write=8, unsent=1000)
    line.loop.advance(7)
    line.take(0)
    line.loop.advance(9.9)
    assert failure(answer) is None
    line.loop.advance(0.2)
    assert isinstance(failure(answer), HeadTimedOut)
    assert line.connection.closed


def test_parts_of_a_head_and_interim_responses_do_not_prolong_it() -> None:
    line = Clockwork()
    answer = line.ask(first_byte=10, idle=1)
    for piece in (b"HTTP/1.1 102 x\r\n\r\n", b"HTTP/1.1 200 ", b"OK\r\n"):
        line.loop.advance(3)
        line.connection.data_received(piece)
    assert failure(answer) is None
    line.loop.advance(1.1)
    assert isinstance(failure(answer), HeadTimedOut)


def test_every_byte_prolongs_the_patience_with_a_body() -> None:
    line = Clockwork()
    answer = line.ask(first_byte=10, idle=2)
    line.hear(chunked(end=b""))
    for _ in range(20):
        line.loop.advance(1.9)
        line.hear(b"1\r\nx\r\n")
    assert failure(answer) is None
    line.loop.advance(2.1)
    assert isinstance(failure(answer), IdleTimedOut)


def test_a_part_of_a_chunk_is_no_silence() -> None:
    line = Clockwork()
    answer = line.ask(idle=2)
    line.hear(chunked(end=b"5\r\n"))
    for byte in (b"h", b"e", b"l"):
        line.loop.advance(1.9)
        line.hear(byte)
    assert failure(answer) is None


def test_while_we_do_not_read_the_backend_is_not_silent() -> None:
    line = Clockwork()
    answer = line.ask(idle=2)
    line.hear(chunked(b"x" * (BEHIND + 1), end=b""))
    line.loop.advance(1000)
    assert failure(answer) is None
    with pytest.raises(StopIteration):
        answer.read().send(None)
    line.loop.advance(1.9)
    assert failure(answer) is None
    line.loop.advance(0.2)
    assert isinstance(failure(answer), IdleTimedOut)


def test_progress_prolongs_the_patience_with_a_request() -> None:
    line = Clockwork()
    answer = line.ask(first_byte=1, write=2, unsent=10_000)
    for unsent in range(9_000, 0, -1_000):
        line.loop.advance(1.9)
        line.take(unsent)
    assert failure(answer) is None
    line.loop.advance(4.1)
    assert isinstance(failure(answer), WriteTimedOut)


def test_a_source_that_is_slow_is_not_the_backends_fault() -> None:
    line = Clockwork()
    answer = line.ask(first_byte=1, write=1)
    line.connection._uploading = True
    line.loop.advance(1000)
    assert failure(answer) is None


def test_an_answer_that_has_begun_is_not_timed_by_the_request() -> None:
    line = Clockwork()
    answer = line.ask(first_byte=1, write=1, idle=100, unsent=1000)
    line.hear(chunked(end=b""))
    line.loop.advance(99)
    assert failure(answer) is None


def test_rest_ends_where_a_request_begins() -> None:
    line = Clockwork(idle_expiry=5)
    line.ask()
    line.hear(reply())
    line.loop.advance(4.9)
    answer = line.ask(first_byte=100)
    line.loop.advance(99)
    assert failure(answer) is None
    line.hear(reply())
    closed = []
    for seconds in (4.9, 0.2):
        line.loop.advance(seconds)
        closed.append(line.connection.closed)
    assert closed == [False, True]


def test_no_timer_is_set_for_a_request_or_a_chunk() -> None:
    line = Clockwork(idle_expiry=30)

    def serve() -> None:
        line.ask(first_byte=600, idle=120, write=30)
        line.hear(chunked(end=b""))
        for _ in range(100):
            line.hear(b"1\r\nx\r\n")
        line.hear(b"0\r\n\r\n")

    serve()
    handles = line.loop.handles
    for _ in range(100):
        line.loop.advance(0.01)
        serve()
    assert line.loop.handles == handles


def test_nothing_is_timed_where_nothing_is_asked() -> None:
    line = Clockwork()
    answer = line.ask(unsent=1000)
    line.take(0)
    line.loop.advance(10**6)
    line.hear(chunked(end=b""))
    line.loop.advance(10**6)
    assert failure(answer) is None
    assert line.loop.handles == 0


async def test_every_failure_is_an_httpx_error_of_the_transport() -> None:
    async with line(once(b"junk")) as on:
        with pytest.raises(httpx.TransportError) as caught:
            await on.ask()
        assert isinstance(caught.value, TransportFailure)


@pytest.mark.parametrize("written", [True, False])
async def test_a_request_of_which_no_byte_was_written_was_not_sent(written: bool) -> None:
    async def hangs_up(peer: Peer) -> None:
        if written:
            await peer.request()
        else:
            await peer.gone()

    async with line(hangs_up) as one:
        if not written:
            transport = one.connection._transport
            assert transport is not None
            transport.close()
        with pytest.raises(Disconnected) as lost:
            await one.ask()
        assert lost.value.sent is written
