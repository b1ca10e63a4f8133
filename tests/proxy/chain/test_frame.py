"""proxy/chain/frame.py."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from proxy.chain.browser_gate import PageGate
from proxy.chain.frame import Frame, Generation
from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import ASGIApp, Header, Message, Receive, Scope, Send, header, header_values
from proxy.kernel.body_budget import BodyBudget
from proxy.kernel.cross_origin import CrossOrigin
from proxy.kernel.error_codes import Code
from proxy.kernel.errors import ConnectFailed, ErrorRecord, Refused, Truncated, UpstreamAnswer
from proxy.kernel.exchange import Exchange
from proxy.kernel.known_hosts import KnownHosts
from proxy.kernel.routes import RouteTable
from proxy.testing import suppose
from tests.support.options import body_budget

START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")]}


class Server:
    """One request as a server makes it: `messages` in, then nothing until `hang_up`."""

    def __init__(self, *bodies: bytes, method: str = "POST", path: str = "/api/chat") -> None:
        self.scope: Scope = {
            "type": "http",
            "method": method,
            "scheme": "http",
            "path": path,
            "query_string": b"",
            "headers": [(b"transfer-encoding", b"chunked")] if bodies else [],
            "client": ("192.0.2.1", 1),
            "state": {},
        }
        parts = bodies or (b"",)
        self.messages: list[Message] = [
            {"type": "http.request", "body": body, "more_body": number < len(parts)}
            for number, body in enumerate(parts, start=1)
        ]
        self.sent: list[Message] = []
        self.gone = asyncio.Event()

    def hang_up(self) -> None:
        self.gone.set()

    async def receive(self) -> Message:
        if self.messages:
            return self.messages.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def complete(self) -> bool:
        return len(self.sent) > 1 and not self.sent[-1].get("more_body", False)


class Watcher:
    """An outermost plugin that notes how exchanges end."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.finished: list[Exchange] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        Exchange.of(scope).on_finish(self.finished.append)
        await self.app(scope, receive, send)


def make(app: ASGIApp, bodies: BodyBudget | None = None) -> tuple[Frame, Watcher]:
    watcher = Watcher(app)
    return Frame(Generation(1, watcher, RouteTable()), bodies=bodies or body_budget()), watcher


async def serve(app: ASGIApp, server: Server) -> Exchange:
    frame, watcher = make(app)
    await frame(server.scope, server.receive, server.send)
    await frame.settled()
    assert not frame.live
    (exchange,) = watcher.finished
    return exchange


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send(START)
    await send({"type": "http.response.body", "body": b"one", "more_body": True})
    await send({"type": "http.response.body", "body": b"two", "more_body": False})


CHAT = b"https://chat.example.com"
GATE = PageGate(CrossOrigin(origins=[CHAT.decode()]), KnownHosts())


async def served(app: ASGIApp, server: Server, *headers: Header, gate: PageGate = GATE) -> tuple[Frame, Exchange]:
    """Serve a request through a gate; return the frame, and the exchange as the observer saw it at its end."""
    seen: list[Exchange] = []

    class Observer:
        def started(self, exchange: Exchange) -> None: ...

        def answered(self, exchange: Exchange) -> None: ...

        def finished(self, exchange: Exchange) -> None:
            seen.append(exchange)

    server.scope["headers"] += headers
    if b"host" not in dict(headers):
        server.scope["headers"].append((b"host", b"localhost:11435"))
    frame = Frame(Generation(1, app, RouteTable(), gate=gate), bodies=body_budget(), observer=Observer())
    await frame(server.scope, server.receive, server.send)
    (exchange,) = seen
    return frame, exchange


def cors_of(server: Server) -> set[bytes]:
    return {name for name, _ in server.sent[0]["headers"] if name.startswith(b"access-control-")}


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages", "/", "/-/healthz", "/nowhere"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ([(b"origin", b"https://evil.example")], 403, "cross_origin"),
        ([(b"origin", b"null"), (b"access-control-request-method", b"POST")], 403, "cross_origin"),
        ([(b"sec-fetch-site", b"cross-site")], 403, "cross_origin"),
        ([(b"host", b"evil.example")], 403, "unknown_host"),
        ([(b"origin", CHAT), (b"origin", CHAT)], 400, "bad_origin"),
    ],
)
async def test_a_page_that_may_not_call_reaches_no_plugin(
    method: str, path: str, headers: list[Header], status: int, code: str
) -> None:
    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("the chain was called")

    server = Server(b"{}", method=method, path=path)
    frame, exchange = await served(never, server, *headers)
    assert (server.status, exchange.status, exchange.outcome) == (status, status, "refused")
    assert exchange.error is not None
    assert exchange.error.code == code
    assert frame.refusals == {code: 1}
    assert len(server.messages) == 1, "its body was read"
    assert not cors_of(server)
    assert (b"error" in server.body) is (exchange.flavor != "text")


@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
async def test_a_page_that_may_call_reads_that_the_proxys_name_is_not_known(method: str) -> None:
    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("the chain was called")

    server = Server(method=method)
    preflight = ((b"access-control-request-method", b"POST"),) if method == "OPTIONS" else ()
    frame, _ = await served(never, server, (b"origin", CHAT), (b"host", b"llm.example"), *preflight)
    assert (server.status, frame.refusals) == (403, {"unknown_host": 1})
    assert header(server.sent[0]["headers"], b"access-control-allow-origin") == CHAT


async def test_a_preflight_request_is_answered_before_any_plugin() -> None:
    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("the chain was called")

    server = Server(method="OPTIONS")
    asked = ((b"access-control-request-method", b"DELETE"), (b"access-control-request-headers", b"authorization"))
    _, exchange = await served(never, server, (b"origin", CHAT), *asked)
    headers = server.sent[0]["headers"]
    assert (server.status, server.body, server.complete, exchange.outcome) == (204, b"", True, "completed")
    assert header(headers, b"access-control-allow-origin") == CHAT
    assert header(headers, b"access-control-allow-headers") == b"authorization"
    assert len(header_values(headers, b"vary")) == 1


@pytest.mark.parametrize(
    "error",
    [
        Refused(401, "who are you?"),
        Refused(429, "later", headers={"retry-after": "3"}),
        ConnectFailed("nobody there"),
        UpstreamAnswer(404, [(b"access-control-allow-origin", b"*")], b"no", busy=False, missing=True),
        ValueError("a bug"),
        None,
    ],
)
async def test_a_page_that_may_call_can_read_every_answer(error: Exception | None) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        Exchange.of(scope).response_headers += [(b"vary", b"Accept"), (b"x-mine", b"1")]
        if error is not None:
            raise error
        theirs = [(b"vary", b"origin"), (b"access-control-allow-origin", b"https://other.example")]
        await send({"type": "http.response.start", "status": 200, "headers": theirs})
        await send({"type": "http.response.body", "body": b"ok"})

    server = Server()
    _, exchange = await served(app, server, (b"origin", CHAT))
    headers = server.sent[0]["headers"]
    assert header_values(headers, b"access-control-allow-origin") == [CHAT]
    assert b"retry-after" in (header(headers, b"access-control-expose-headers") or b"")
    assert [value.lower().count(b"origin") for value in header_values(headers, b"vary")] == [1]
    assert header(headers, b"x-request-id") == exchange.id.encode()
    assert header(headers, b"x-mine") == b"1"
    if exchange.status == 429:
        assert header(headers, b"retry-after") == b"3"


async def test_what_is_no_page_of_another_origin_is_answered_as_ever() -> None:
    for headers in ((), ((b"origin", b"http://localhost:11435"),)):
        server = Server()
        await served(answer, server, *headers)
        assert (server.status, cors_of(server)) == (200, set())
        assert header(server.sent[0]["headers"], b"vary") is None


async def test_completed() -> None:
    server = Server(b"{}")
    exchange = await serve(answer, server)
    assert exchange.outcome == "completed"
    assert (exchange.status, exchange.chunks, exchange.bytes_out) == (200, 2, 6)
    assert server.body == b"onetwo"
    assert server.complete
    assert header(server.sent[0]["headers"], b"x-request-id") == exchange.id.encode()
    assert exchange.ended_at is not None


@pytest.mark.parametrize(("network", "relayed"), [("192.0.2.0/24", True), ("10.0.0.0/8", False)])
async def test_what_comes_from_a_trusted_proxy_is_relayed_whatever_it_says(network: str, relayed: bool) -> None:
    seen: list[tuple[bool, str]] = []

    async def look(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        seen.append((exchange.relayed, exchange.client))
        await answer(scope, receive, send)

    frame, _ = make(look)
    frame.current = replace(frame.current, trusted_proxies=[ip_network(network)])
    server = Server()
    await frame(server.scope, server.receive, server.send)
    assert seen == [(relayed, "192.0.2.1")]


async def test_headers_that_plugins_left_are_on_every_answer_errors_included() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        Exchange.of(scope).response_headers.append((b"x-left", b"1"))
        raise Refused(429, "too many", headers={"retry-after": "3"})

    server = Server(b"{}")
    exchange = await serve(app, server)
    assert exchange.outcome == "refused"
    assert server.status == 429
    assert header(server.sent[0]["headers"], b"x-left") == b"1"
    assert header(server.sent[0]["headers"], b"retry-after") == b"3"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", b'{"error":"no","code":"c"}'),
        ("/v1/chat/completions", b'{"error":{"message":"no","type":"permission_error","param":null,"code":"c"}}'),
        ("/v1/messages", b'{"type":"error","error":{"type":"permission_error","message":"no","code":"c"}}'),
        ("/", b"no"),
    ],
)
async def test_errors_speak_the_flavor_that_was_called(path: str, body: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise Refused(403, "no", code=Code("c"))

    server = Server(path=path)
    await serve(app, server)
    assert (server.status, server.body) == (403, body)


async def test_a_bug_fails_closed_and_says_nothing_of_itself() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError("secret")

    server = Server()
    exchange = await serve(app, server)
    assert server.status == 500
    assert b"secret" not in server.body
    assert exchange.id.encode() in server.body
    assert exchange.outcome == "refused"


@pytest.mark.parametrize("messages", [[], [START]])
async def test_a_chain_that_does_not_answer_is_a_bug(messages: list[Message]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    server = Server()
    await serve(app, server)
    assert server.status == (200 if messages else 500)
    assert server.complete is not bool(messages)


async def test_an_answer_that_breaks_is_left_without_its_end() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        raise Truncated("the backend died")

    server = Server()
    exchange = await serve(app, server)
    assert exchange.outcome == "upstream_truncated"
    assert not server.complete


async def test_the_client_leaving_cancels_whatever_is_awaited() -> None:
    waiting = asyncio.Event()
    cancelled = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Exchange.of(scope).body()
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    server = Server(b"{}")
    frame, watcher = make(app)
    task = asyncio.create_task(frame(server.scope, server.receive, server.send))
    await waiting.wait()
    server.hang_up()
    await task
    assert cancelled.is_set()
    assert not task.cancelled()
    assert watcher.finished[0].outcome == "client_gone"
    assert not server.sent


async def test_a_server_that_calls_back_needs_no_task_to_wait() -> None:
    """In every state of a request: here before its body was asked for. Why the server hung up is noted."""
    waiting = asyncio.Event()
    left: list[Callable[[], None]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        waiting.set()
        await asyncio.Event().wait()

    server = Server(b"{}")
    server.scope["state"] = {"when_gone": left.append}
    frame, watcher = make(app)
    task = asyncio.create_task(frame(server.scope, server.receive, server.send))
    await waiting.wait()
    server.scope["state"]["gone"] = Refused(408, "the client read nothing", code=codes.WRITE_TIMEOUT)
    left[0]()
    await task
    (exchange,) = watcher.finished
    assert exchange.outcome == "client_gone"
    assert exchange.error is not None
    assert exchange.error.code == "write_timeout"
    assert not server.sent


async def test_a_client_that_goes_behind_the_end_of_a_request_changes_nothing() -> None:
    left: list[Callable[[], None]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        raise Truncated("the backend died")

    server = Server()
    server.scope["state"] = {"when_gone": left.append}
    exchange = await serve(app, server)
    left[0]()  # the server closes a connection whose answer lacks its end
    await asyncio.sleep(0)
    assert not exchange.gone
    assert exchange.outcome == "upstream_truncated"


async def test_leaving_right_behind_the_terminator_is_completion() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        await send(START)
        await send({"type": "http.response.body", "body": b'{"done":true}\n', "more_body": True})
        suppose(exchange, terminated=True)
        server.hang_up()
        await asyncio.Event().wait()

    server = Server()
    assert (await serve(app, server)).outcome == "completed"


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_whole_answer_may_be_an_error_of_the_backend(leaves: bool) -> None:
    failure = ErrorRecord("boom", about="unknown", said="boom")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        suppose(Exchange.of(scope), terminated=True, failure=failure)
        await send(START)
        await send({"type": "http.response.body", "body": b'{"error":"boom"}\n', "more_body": leaves})
        if leaves:
            server.hang_up()
            await asyncio.Event().wait()

    server = Server()
    exchange = await serve(app, server)
    assert (exchange.outcome, exchange.error, exchange.error_code) == ("upstream_failed", failure, "upstream_error")


async def test_leaving_while_the_body_is_read() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Exchange.of(scope).body()
        raise AssertionError("there is no body")

    server = Server(b"{", b"}")
    server.messages = server.messages[:1]
    server.hang_up()
    exchange = await serve(app, server)
    assert exchange.outcome == "client_gone"
    assert not server.sent


async def test_shutdown_before_the_answer_is_a_503() -> None:
    waiting = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        waiting.set()
        await asyncio.Event().wait()

    server = Server()
    frame, watcher = make(app)
    task = asyncio.create_task(frame(server.scope, server.receive, server.send))
    await waiting.wait()
    task.cancel()
    await task
    assert watcher.finished[0].outcome == "shutdown"
    assert server.status == 503


async def test_shutdown_in_a_stream_leaves_it_without_its_end() -> None:
    waiting = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        waiting.set()
        await asyncio.Event().wait()

    server = Server()
    frame, watcher = make(app)
    task = asyncio.create_task(frame(server.scope, server.receive, server.send))
    await waiting.wait()
    task.cancel()
    await task
    assert watcher.finished[0].outcome == "shutdown"
    assert not server.complete


async def test_finishers_run_once_last_first_and_none_stops_another() -> None:
    order: list[str] = []

    async def later(exchange: Exchange) -> None:
        await asyncio.sleep(0)
        order.append("async")

    def broken(exchange: Exchange) -> None:
        raise ZeroDivisionError

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        exchange.on_finish(lambda _: order.append("first"))
        exchange.on_finish(broken)
        exchange.on_finish(later)
        exchange.on_finish(lambda _: order.append("last"))
        raise ConnectFailed("no")

    exchange = await serve(app, Server())
    assert order == ["last", "first", "async"]
    with pytest.raises(RuntimeError):
        exchange.on_finish(later)


async def test_an_error_leaves_no_cycle_behind() -> None:
    class Body:
        pass

    seen: list[weakref.ref[Body]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = Body()
        seen.append(weakref.ref(body))
        try:
            raise OSError("below")
        except OSError as error:
            raise Refused(429, "too many") from error

    gc.collect()
    gc.disable()
    try:
        exchange = await serve(app, Server(b"{}"))
        assert exchange.error is not None
        assert seen[0]() is None
    finally:
        gc.enable()


async def test_a_request_that_is_over_leaves_nothing_to_collect() -> None:
    kept: list[weakref.ref[Any]] = []

    class Probe:
        """Something that lives as long as its exchange."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        probe = Probe()
        suppose(exchange, need=probe)
        kept.append(weakref.ref(probe))
        await answer(scope, receive, send)

    server = Server(b"{}")
    server.scope["state"] = {"when_gone": lambda _: None, "write": lambda _: True}
    frame, watcher = make(app)
    gc.collect()
    gc.disable()
    try:
        await frame(server.scope, server.receive, server.send)
        watcher.finished.clear()
        assert kept[0]() is None
    finally:
        gc.enable()


async def test_chunks_that_take_the_short_way_are_counted() -> None:
    written: list[bytes] = []

    def write(chunk: bytes) -> bool:
        written.append(chunk)
        return len(written) < 2

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        shortcut = Exchange.of(scope).shortcut
        assert shortcut is not None
        assert shortcut[0] == send
        await send(START)
        assert shortcut[1](b"one")
        assert not shortcut[1](b"three")
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    server = Server(b"{}")
    server.scope["state"] = {"write": write}
    exchange = await serve(app, server)
    assert (exchange.chunks, exchange.bytes_out, exchange.outcome) == (2, 8, "completed")
    assert written == [b"one", b"three"]
    assert exchange.shortcut is None
    assert await exchange.receive() == {"type": "http.disconnect"}


async def test_the_body_gives_its_memory_back() -> None:
    bodies = body_budget()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Exchange.of(scope).body()
        assert bodies.held == 9
        await answer(scope, receive, send)

    server = Server(b"123", b"456", b"789")
    frame, _ = make(app, bodies)
    await frame(server.scope, server.receive, server.send)
    assert bodies.held == 0


async def test_an_app_may_wait_for_the_disconnect_itself() -> None:
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            seen.append(await receive())
        except asyncio.CancelledError:
            seen.append({"type": "cancelled"})
            raise

    server = Server()
    server.hang_up()
    await serve(app, server)
    assert seen[0]["type"] in ("http.disconnect", "cancelled")


async def test_requests_keep_the_generation_they_began_with() -> None:
    frame, old = make(answer)
    new = Watcher(answer)
    frame.current = Generation(2, new, RouteTable())
    server = Server()
    await frame(server.scope, server.receive, server.send)
    assert not old.finished
    assert new.finished[0].generation == 2


@pytest.mark.parametrize("fails_at", [None, "startup", "shutdown"])
async def test_lifespan(fails_at: str | None) -> None:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        if fails_at == "startup":
            raise RuntimeError("no store")
        yield
        if fails_at == "shutdown":
            raise RuntimeError("no store")

    sent: list[dict[str, Any]] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"} if not sent else {"type": "lifespan.shutdown"}

    async def send(message: Message) -> None:
        sent.append(dict(message))

    frame = Frame(Generation(1, answer, RouteTable()), bodies=body_budget(), lifespan=lifespan)
    await frame({"type": "lifespan"}, receive, send)
    failed = {
        "startup": ["lifespan.startup.failed"],
        "shutdown": ["lifespan.startup.complete", "lifespan.shutdown.failed"],
    }
    expected = failed.get(fails_at or "", ["lifespan.startup.complete", "lifespan.shutdown.complete"])
    assert [message["type"] for message in sent] == expected
