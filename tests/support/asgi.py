"""Hand-written ASGI calls: run a plugin against a small inner app, without a server, a socket or the frame."""

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.kernel.asgi import ASGIApp, Header, Message, Receive, Scope, Send, header
from proxy.kernel.body_budget import BodyBudget
from proxy.kernel.errors import Outcome, ProxyError
from proxy.kernel.exchange import KEY, PARTS, Exchange
from proxy.kernel.routes import RouteTable
from tests.support.options import body_budget

ROUTES = RouteTable()


def make_exchange(
    method: str = "POST",
    path: str = "/api/chat",
    *,
    body: bytes | Sequence[bytes] = b"",
    headers: Sequence[tuple[str, str]] = (),
    client: str = "127.0.0.1",
    query: bytes = b"",
    started_at: float | None = None,
    bodies: BodyBudget | None = None,
    **noted: Any,
) -> Exchange:
    """Return an exchange as the frame makes it, with what is `noted` of it already.

    `body` comes in as many messages as it has parts, then a disconnect.
    """
    parts = [body] if isinstance(body, bytes) else list(body)
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, start=1)
    ]

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    raw: list[Header] = [(name.lower().encode(), value.encode()) for name, value in headers]
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": raw,
        "client": (client, 12345),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    exchange = Exchange(
        scope,
        receive,
        id="test",
        routes=ROUTES,
        client=client,
        started_at=time.monotonic() if started_at is None else started_at,
        bodies=bodies or body_budget(),
    )
    scope[KEY] = exchange
    return suppose(exchange, **noted)


def suppose(exchange: Exchange, **noted: Any) -> Exchange:
    """Note in an exchange what its writers would, by the names of its attributes; return it."""
    for name, value in noted.items():
        owner = next((kind for kind in PARTS if name in kind.__annotations__), None)
        if owner is not None:
            setattr(exchange.part(owner), name, value)
        else:
            assert isinstance(getattr(Exchange, name), property), f"an exchange has no {name}"
            owner_of = exchange._body if hasattr(exchange._body, name) else exchange
            setattr(owner_of, name if owner_of is not exchange else f"_{name}", value)
    return exchange


async def assert_not_wrapped(make: Callable[[ASGIApp], ASGIApp]) -> None:
    """Assert that the plugin which `make` puts around an app hands on `receive` and `send` as they came."""
    seen: list[object] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([receive, send])

    async def send(message: object) -> None: ...

    exchange = make_exchange()
    receive = exchange.receive
    await make(inner)(exchange.scope, receive, send)
    assert seen == [receive, send]


def unread(exchange: Exchange) -> Receive:
    """Return what gives the messages of the client that nobody has read, also when the request is over."""
    return exchange._body._source


@dataclass
class Answer:
    """What came of a call."""

    status: int | None = None
    headers: list[Header] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    complete: bool = False
    error: ProxyError | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def header(self, name: str) -> str | None:
        value = header(self.headers, name.encode())
        return None if value is None else value.decode("latin-1")


async def call(app: ASGIApp, exchange: Exchange, *, outcome: Outcome | None = None) -> Answer:
    """Run `app` for `exchange` as the frame does: collect what it sends, note a ProxyError, then run the finishers."""
    answer = Answer()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            suppose(exchange, status=answer.status)
            answer.headers = [*message.get("headers", []), *exchange.response_headers]
        else:
            answer.chunks.append(message.get("body", b""))
            answer.complete = not message.get("more_body", False)

    try:
        await app(exchange.scope, exchange.receive, send)
    except ProxyError as error:
        answer.error = error
        suppose(exchange, error=error, outcome=outcome or error.outcome)
    else:
        suppose(exchange, outcome=outcome or "completed")
    for finish in exchange.finishers():
        result = finish(exchange)
        if inspect.isawaitable(result):
            await result
    return answer


async def ok(scope: Scope, receive: Receive, send: Send) -> None:
    """An inner app that answers 200 ``ok``."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def hands_send_on(plugin: Callable[[ASGIApp], ASGIApp], exchange: Exchange) -> bool:
    """Whether the app behind a plugin gets the very `send` that the plugin got: then nothing of it runs per chunk."""
    given: list[Send] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        given.append(send)

    async def send(message: Message) -> None:
        raise AssertionError("nothing is sent here")

    await plugin(inner)(exchange.scope, exchange.receive, send)
    return given == [send]
