"""proxy/chain/heartbeats.py, in the frame, under a server that is only a list."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from proxy.chain.frame import Frame, Generation
from proxy.chain.heartbeats import HEARTBEAT
from proxy.kernel.asgi import UNBUFFERED, ASGIApp, Message, Receive, Scope, Send, header
from proxy.kernel.errors import ConnectFailed, Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.routes import RouteTable
from proxy.testing import suppose
from tests.support.options import body_budget

EVENTS = [(b"content-type", b"text/event-stream"), UNBUFFERED]
START: Message = {"type": "http.response.start", "status": 200, "headers": [*EVENTS, (b"x-late", b"1")]}
END: Message = {"type": "http.response.body", "body": b"", "more_body": False}
OFTEN = 0.001
NEVER = 1000.0


def body(data: bytes) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": True}


class Server:
    """One request for a stream; `heard` waits until so many messages have gone out."""

    def __init__(self, path: str = "/v1/chat/completions") -> None:
        self.scope: Scope = {
            "type": "http", "method": "POST", "scheme": "http", "path": path, "query_string": b"", "headers": [],
            "client": ("192.0.2.1", 1), "state": {},
        }  # fmt: skip
        self.sent: list[Message] = []
        self.gone = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.holds = asyncio.Event()
        self._more = asyncio.Event()
        self._asked = False

    async def receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if not self.reads.is_set():
            self.holds.set()
        await self.reads.wait()
        self.sent.append(message)
        self._more.set()

    async def heard(self, number: int) -> None:
        async with asyncio.timeout(10):
            while len(self.sent) < number:
                self._more.clear()
                await self._more.wait()

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:]).replace(HEARTBEAT, b"")

    @property
    def complete(self) -> bool:
        return not self.sent[-1].get("more_body", True)


Then = Callable[[Send], Awaitable[None]]


async def serve(server: Server, then: Then, *, every: float = OFTEN, until: int = 3) -> Exchange:
    """Serve a request that gets heartbeats until so many messages are out; then `then` goes on."""
    seen: list[Exchange] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        seen.append(exchange)
        assert exchange.beat is not None
        exchange.beat(send, every, EVENTS)
        await server.heard(until)
        exchange.response_headers.append((b"x-late", b"1"))
        await then(send)

    await frame(app)(server.scope, server.receive, server.send)
    assert seen[0].beat is None
    return seen[0]


def frame(app: ASGIApp) -> Frame:
    return Frame(Generation(1, app, RouteTable()), bodies=body_budget())


async def answer(send: Send, start: Message = START, *parts: bytes) -> None:
    await send(start)
    for part in parts or (b"data: 1\n\n",):
        await send(body(part))
    await send(END)


async def test_the_stream_goes_on_behind_heartbeats() -> None:
    server = Server()
    exchange = await serve(server, answer)
    start, *rest = server.sent
    assert start["status"] == 200
    assert start["headers"] == [*EVENTS, (b"x-request-id", exchange.id.encode())]
    *beats, event, end = rest
    assert beats == [body(HEARTBEAT)] * exchange.heartbeats
    assert (event, end) == (body(b"data: 1\n\n"), END)
    assert (exchange.status, exchange.outcome) == (200, "completed")
    assert (exchange.chunks, exchange.bytes_out) == (1, 9)


async def test_an_answer_before_the_first_heartbeat_is_as_ever() -> None:
    server = Server()
    exchange = await serve(server, answer, every=NEVER, until=0)
    assert header(server.sent[0]["headers"], b"x-late") == b"1"
    assert (exchange.heartbeats, server.body, server.complete) == (0, b"data: 1\n\n", True)


async def test_the_request_counts_as_unanswered_until_its_answer() -> None:
    server = Server()
    noted: list[tuple[int | None, bool]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        assert exchange.beat is not None
        exchange.beat(send, OFTEN, EVENTS)
        await server.heard(3)
        noted.append((exchange.status, exchange.committed))
        await answer(send)

    await frame(app)(server.scope, server.receive, server.send)
    assert noted == [(None, False)]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Refused(429, "too many"), b'"type":"rate_limit_error"'),
        (ConnectFailed("nobody there"), b'"code":"upstream_unreachable"'),
        (ValueError("a bug"), b'"code":"internal_error"'),
    ],
)
async def test_an_error_becomes_a_record_and_the_stream_does_not_end(error: Exception, text: bytes) -> None:
    async def fail(send: Send) -> None:
        raise error

    server = Server()
    exchange = await serve(server, fail)
    assert server.sent[0]["status"] == 200
    assert server.body.startswith(b'data: {"error":{')
    assert text in server.body
    assert not server.complete
    assert exchange.status == getattr(error, "status", 500)
    assert exchange.error is not None


async def test_an_error_in_the_form_of_the_api() -> None:
    async def fail(send: Send) -> None:
        raise Refused(503, "wait")

    server = Server("/v1/messages")
    await serve(server, fail)
    assert server.body.startswith(b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"')


@pytest.mark.parametrize(
    ("start", "outcome"),
    [
        ({"status": 404, "headers": [(b"content-type", b"application/json")]}, "completed"),
        ({"status": 200, "headers": [(b"content-type", b"application/json")]}, "upstream_failed"),
        ({"status": 200, "headers": [*EVENTS, (b"content-encoding", b"gzip")]}, "upstream_failed"),
    ],
)
async def test_what_is_no_stream_becomes_a_record(start: dict[str, Any], outcome: str) -> None:
    async def relay(send: Send) -> None:
        await answer(send, {"type": "http.response.start", **start}, b'{"error":', b'{"message":"m"}}')

    server = Server()
    exchange = await serve(server, relay)
    assert (server.body == b'data: {"error":{"message":"m"}}\n\n') == (start["status"] == 404)
    assert server.body.count(b"data: ") == 1
    assert not server.complete
    assert (exchange.status, exchange.outcome) == (start["status"], outcome)


async def test_chunks_that_take_the_short_way_become_the_record_too() -> None:
    written: list[bytes] = []
    server = Server()

    def directly(chunk: bytes) -> bool:
        written.append(chunk)
        return True

    server.scope["state"] = {"write": directly}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        assert exchange.beat is not None
        assert exchange.shortcut is not None
        write = exchange.shortcut[1]
        exchange.beat(send, OFTEN, EVENTS)
        await server.heard(3)
        await send({"type": "http.response.start", "status": 500, "headers": []})
        assert write(b'{"error":{"message"')
        assert write(b':"m"}}')
        await send(END)

    await frame(app)(server.scope, server.receive, server.send)
    assert (written, server.body) == ([], b'data: {"error":{"message":"m"}}\n\n')


async def test_a_client_that_leaves_gets_no_more() -> None:
    server = Server()

    async def wait(send: Send) -> None:
        server.gone.set()
        await asyncio.Event().wait()

    exchange = await serve(server, wait)
    number = len(server.sent)
    assert exchange.outcome == "client_gone"
    await asyncio.gather(*(task for task in asyncio.all_tasks() if "_beat" in repr(task)), return_exceptions=True)
    assert len(server.sent) == number


async def test_a_client_that_does_not_read_gets_one_at_a_time() -> None:
    """The heartbeat that is held up goes out before the answer, and none is added."""
    server = Server()

    async def hold(send: Send) -> None:
        server.reads.clear()
        await server.holds.wait()
        answered = asyncio.create_task(answer(send))
        await asyncio.sleep(0)
        before = len(server.sent)
        server.reads.set()
        await answered
        assert server.sent[before:] == [body(HEARTBEAT), body(b"data: 1\n\n"), END]

    exchange = await serve(server, hold)
    assert exchange.outcome == "completed"


async def test_the_first_heartbeat_is_held_up_whole() -> None:
    server = Server()
    server.reads.clear()

    async def hold(send: Send) -> None:
        await server.holds.wait()
        answered = asyncio.create_task(answer(send))
        await asyncio.sleep(0)
        server.reads.set()
        await answered

    await serve(server, hold, until=0)
    assert [message["type"] for message in server.sent].count("http.response.start") == 1
    assert server.sent[1:] == [body(HEARTBEAT), body(b"data: 1\n\n"), END]


async def test_where_a_plugin_wraps_send_there_are_none() -> None:
    server = Server()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def wrapped(message: Message) -> None:
            await send(message)

        exchange = Exchange.of(scope)
        assert exchange.beat is not None
        exchange.beat(wrapped, 0.0, EVENTS)
        for _ in range(5):
            await asyncio.sleep(0)
        await answer(wrapped)

    await frame(app)(server.scope, server.receive, server.send)
    assert server.sent[1:] == [body(b"data: 1\n\n"), END]


async def test_a_second_wish_changes_nothing() -> None:
    server = Server()

    async def again(send: Send) -> None:
        exchange = Exchange.of(server.scope)
        assert exchange.beat is not None
        exchange.beat(send, OFTEN, [])
        await answer(send)
        exchange.beat(send, OFTEN, [])

    exchange = await serve(server, again)
    assert exchange.outcome == "completed"


async def fails(send: Send) -> None:
    raise Refused(429, "too many")


async def is_no_stream(send: Send) -> None:
    await answer(send, {"type": "http.response.start", "status": 404, "headers": []}, b"{}")


class Probe:
    """Something that lives as long as its exchange."""


@pytest.mark.parametrize("then", [answer, fails, is_no_stream])
@pytest.mark.parametrize("every", [OFTEN, NEVER])
async def test_a_request_with_heartbeats_leaves_no_cycle(then: Then, every: float) -> None:
    gc.collect()
    gc.disable()
    try:
        server = Server()
        server.scope["state"] = {"when_gone": lambda _: None}
        exchange = await serve(server, then, every=every, until=3 if every == OFTEN else 0)
        probe = Probe()
        suppose(exchange, need=probe)
        kept = weakref.ref(probe)
        del exchange, probe
        await asyncio.sleep(0)  # the cancelled task ends
        await asyncio.sleep(0)
        assert kept() is None
    finally:
        gc.enable()
