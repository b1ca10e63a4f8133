"""The exchange: everything that is known about one request while it runs.

Each request has one, at ``scope["ollama_proxy.exchange"]``. Its attributes are read-only: to assign one raises
AttributeError. What changes while the request runs is in parts, one part for each writer, and no value of their fields
that a plugin reads can be changed in place; see `proxy.kernel.exchange_parts`. Two other values could be, and nobody
may do so: `document`, which `json` returns too, is for reading, as a change does not reach the bytes that are sent
(`edit` changes both); and `scope` is shared by the whole chain, as in every ASGI app.

Any plugin may append header fields for the response to `response_headers`; none needs to wrap `send` for one.
"""

from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from operator import attrgetter
from typing import Any, Final, TypeVar

from proxy.kernel.answer_recorder import Recorder, Stop
from proxy.kernel.asgi import Header, Message, Receive, Scope, Send
from proxy.kernel.attempts import Attempt, Failure, Held, Usage
from proxy.kernel.body_budget import BodyBudget
from proxy.kernel.client_address import block
from proxy.kernel.end_user import named_in
from proxy.kernel.errors import Flavor, Outcome, ProxyError, Unterminated, UpstreamError
from proxy.kernel.exchange_callbacks import Callbacks
from proxy.kernel.exchange_parts import (
    AccessPart,
    AuthPart,
    BlamePart,
    ChainPart,
    DeferPart,
    FramePart,
    ParametersPart,
    Part,
    PoolPart,
    QueuePart,
    RelayPart,
    RetryPart,
    StreamingPart,
    TracingPart,
)
from proxy.kernel.model_names import ModelName
from proxy.kernel.prompt_size import PromptSize
from proxy.kernel.request_body import RequestBody
from proxy.kernel.route import Route
from proxy.kernel.routes import ALL, Match, NoMatch, RouteTable, flavor_of, pinned_in

KEY: Final = "ollama_proxy.exchange"

Finisher = Callable[["Exchange"], Awaitable[None] | None]
Ask = Callable[["Exchange"], Awaitable[None]]
P = TypeVar("P", bound=Part)

PARTS: Final[Mapping[type[Part], str]] = {
    FramePart: "_frame",
    ChainPart: "_chain",
    TracingPart: "_tracing",
    AuthPart: "_auth",
    AccessPart: "_access",
    DeferPart: "_defer",
    ParametersPart: "_parameters",
    QueuePart: "_queue",
    RetryPart: "_retry",
    StreamingPart: "_streaming",
    PoolPart: "_pool",
    BlamePart: "_blame",
    RelayPart: "_relay",
}
"""The parts of an exchange, each with the name of its slot."""


def _noted(part: type[Part], name: str) -> Any:
    """Return a read-only attribute that reads the field `name` of a part."""
    return property(attrgetter(f"{PARTS[part]}.{name}"))


def _fact(slot: str) -> Any:
    """Return a read-only attribute that reads a slot of the exchange, or of its body."""
    return property(attrgetter(slot))


class Exchange:
    """One request on its way through the chain.

    Args:
        scope: the ASGI scope of the request.
        source: receives the client's messages.
        id: the id of the request, for its log lines and for the client.
        routes: the table of routes.
        client: the address of the client, as the trusted proxies in front report it.
        started_at: when the request came, in seconds of the monotonic clock.
        bodies: the memory that request bodies may take.
        generation: the number of the configuration that the request began with.
        relayed: whether a trusted proxy sent the request; its headers do not matter for that.
    """

    __slots__ = (
        *PARTS.values(),
        "_body", "_callbacks", "_client", "_flavor", "_generation", "_id", "_match", "_pinned", "_relayed",
        "_response_headers", "_routes", "_scope", "_started_at",
    )  # fmt: skip

    # Facts: set when the request came, and by `reroute`, which finds the route.
    scope: Final[Scope] = _fact("_scope")
    id: Final[str] = _fact("_id")
    client: Final[str] = _fact("_client")
    relayed: Final[bool] = _fact("_relayed")
    generation: Final[int] = _fact("_generation")
    started_at: Final[float] = _fact("_started_at")
    match: Final[Match | NoMatch] = _fact("_match")
    flavor: Final[Flavor] = _fact("_flavor")
    pinned: Final[str | None] = _fact("_pinned")  # name of the backend that the caller asked for, or ALL

    # The body: whether it was read, how long that took, and its contents.
    has_body: Final[bool] = _fact("_body.is_read")
    reading: Final[float] = _fact("_body.reading")
    edition: Final[int] = _fact("_body.edition")  # a number; changes when the body's contents may have changed
    document: Final[dict[str, Any] | None] = _fact("_body.document")  # for hints; policies use `json`
    prompt_size: Final[PromptSize] = _fact("_body.prompt_size")
    unambiguous: Final[bool] = _fact("_body.unambiguous")  # whether Ollama reads `document` in the same way
    model: Final[ModelName | None] = _fact("_body.model")
    stream: Final[bool] = _fact("_body.stream")

    status: Final[int | None] = _noted(FramePart, "status")
    bytes_in: Final[int] = _noted(FramePart, "bytes_in")
    bytes_out: Final[int] = _noted(FramePart, "bytes_out")
    chunks: Final[int] = _noted(FramePart, "chunks")
    ended: Final[bool] = _noted(FramePart, "ended")
    ended_at: Final[float | None] = _noted(FramePart, "ended_at")
    gone: Final[bool] = _noted(FramePart, "gone")
    outcome: Final[Outcome | None] = _noted(FramePart, "outcome")
    error: Final[ProxyError | None] = _noted(FramePart, "error")
    answer_code: Final[str | None] = _noted(FramePart, "answer_code")
    shortcut: Final[tuple[Send, Callable[[bytes], bool]] | None] = _noted(FramePart, "shortcut")
    heartbeats: Final[int] = _noted(FramePart, "heartbeats")
    beat: Final[Callable[[Send, float, list[Header]], None] | None] = _noted(FramePart, "beat")
    record: Final[Callable[[Recorder], Stop | None] | None] = _noted(FramePart, "record")
    detached: Final[bool] = _noted(FramePart, "detached")
    before_body: Final[Ask | None] = _noted(ChainPart, "before_body")
    trace_id: Final[str | None] = _noted(TracingPart, "trace_id")
    identity: Final[str | None] = _noted(AuthPart, "identity")
    tenant: Final[str | None] = _noted(AuthPart, "tenant")
    policy: Final[str | None] = _noted(AuthPart, "policy")
    claims: Final[Mapping[str, Any]] = _noted(AuthPart, "claims")
    known_by: Final[str] = _noted(AuthPart, "known_by")
    end_user_in_body: Final[bool] = _noted(AuthPart, "end_user_in_body")
    dropped: Final[tuple[str, ...]] = _noted(AccessPart, "dropped")
    deferred: Final[str | None] = _noted(DeferPart, "deferred")
    num_ctx: Final[int | None] = _noted(ParametersPart, "num_ctx")
    queued: Final[float] = _noted(QueuePart, "queued")
    queue_position: Final[int | None] = _noted(QueuePart, "queue_position")
    queue_reason: Final[str | None] = _noted(QueuePart, "queue_reason")
    deadline: Final[float | None] = _noted(QueuePart, "deadline")
    ticket: Final[object | None] = _noted(QueuePart, "ticket")
    lease: Final[Held | None] = _noted(QueuePart, "lease")
    asked: Final[ModelName | None] = _noted(RetryPart, "asked")
    hurry: Final[float | None] = _noted(RetryPart, "hurry")
    gave_up: Final[str | None] = _noted(RetryPart, "gave_up")
    patience: Final[float] = _noted(RetryPart, "patience")
    resend: Final[bool] = _noted(RetryPart, "resend")
    unterminated: Final[Unterminated] = _noted(StreamingPart, "unterminated")
    usage_added: Final[bool] = _noted(StreamingPart, "usage_added")
    need: Final[object] = _noted(PoolPart, "need")
    history: Final[tuple[Attempt, ...]] = _noted(PoolPart, "history")
    failed: Final[tuple[Failure, ...]] = _noted(BlamePart, "failed")

    backend: Final[str | None] = _noted(RelayPart, "backend")
    tried: Final[tuple[str, ...]] = _noted(RelayPart, "tried")
    attempts: Final[int] = _noted(RelayPart, "attempts")
    reason: Final[str | None] = _noted(RelayPart, "reason")
    committed: Final[bool] = _noted(RelayPart, "committed")
    first_byte_at: Final[float | None] = _noted(RelayPart, "first_byte_at")
    terminated: Final[bool | None] = _noted(RelayPart, "terminated")
    failure: Final[UpstreamError | None] = _noted(RelayPart, "failure")
    usage: Final[Usage | None] = _noted(RelayPart, "usage")

    def __init__(
        self,
        scope: Scope,
        source: Receive,
        *,
        id: str,
        routes: RouteTable,
        client: str,
        started_at: float,
        bodies: BodyBudget,
        generation: int = 0,
        relayed: bool = False,
    ) -> None:
        self._scope = scope
        self._id = id
        self._client = client
        self._relayed = relayed
        self._generation = generation
        self._started_at = started_at
        self._match: Match | NoMatch
        self._flavor: Flavor
        self._pinned: str | None = None
        self._response_headers: list[Header] = []
        self._body = RequestBody(scope, source, bodies)
        self._frame = FramePart()
        self._chain = ChainPart()
        self._tracing = TracingPart()
        self._auth = AuthPart()
        self._access = AccessPart()
        self._defer = DeferPart()
        self._parameters = ParametersPart()
        self._queue = QueuePart()
        self._retry = RetryPart()
        self._streaming = StreamingPart()
        self._pool = PoolPart()
        self._blame = BlamePart()
        self._relay = RelayPart()
        self._callbacks: Callbacks[Exchange] = Callbacks()
        self._routes = routes
        self.reroute("")

    @staticmethod
    def of(scope: Scope) -> "Exchange":
        """Return the exchange of an ASGI scope that came through the frame."""
        exchange: Exchange = scope[KEY]
        return exchange

    def part(self, kind: type[P]) -> P:
        """Return a part of the exchange for writing; only the writer that the part names may call this."""
        part: P = getattr(self, PARTS[kind])
        return part

    @property
    def error_code(self) -> str | None:
        """The code of the error that the request ended with, None where there was no error."""
        return self.answer_code if self.error is None else self.error.code

    @property
    def route(self) -> Route | None:
        """The route of this request, None where Ollama has none."""
        return self._match.route if isinstance(self._match, Match) else None

    @property
    def caller(self) -> str:
        """The key of the caller for limits that keep one caller from using up what all callers share.

        It is the identity, or for a caller without one the address (IPv6: its /64, which one subscriber owns). A key
        of one kind never equals a key of the other.
        """
        identity = self._auth.identity
        return f"by {identity}" if identity else f"at {block(self._client)}"

    @property
    def end_user(self) -> str | None:
        """The person for whom a trusted caller calls; one whom the body names is known once the body was read."""
        noted = self._auth
        if noted.end_user is None and noted.end_user_in_body:
            return named_in(self._body.document, self._flavor)
        return noted.end_user

    @property
    def response_headers(self) -> list[Header]:
        """Header fields that are added to the response, whichever part makes it; any plugin may append to the list."""
        return self._response_headers

    @response_headers.setter
    def response_headers(self, value: list[Header]) -> None:
        if value is not self._response_headers:  # ``+=`` assigns the same list again
            raise AttributeError("response_headers can be appended to, and not be replaced by another list")

    def reroute(self, prefix: str) -> None:
        """Move `prefix` from the front of ``scope["path"]`` to its ``root_path`` and look the route up again.

        For the frame, and for `auth`, which removes a token from the path.
        """
        scope = self._scope
        _move(prefix, scope)
        pinned, prefix = pinned_in(scope["path"], scope["headers"])
        _move(prefix, scope)
        if prefix or self._pinned is None:
            self._pinned = pinned
        self._match = self._routes.match(scope["method"], scope["path"], scope["query_string"])
        if self._pinned == ALL and self.route is not None and self.route.kind not in ("manage", "account"):
            self._pinned = None
        self._body.reroute(self._match)
        self._flavor = flavor_of(scope["path"]) if self.route is None else self.route.flavor

    # Changes that a writer may make in another writer's part

    def take_lease(self) -> Held | None:
        """Take and return the lease that the queue got for this request, None where there is none. For dispatch."""
        lease, self._queue.lease = self._queue.lease, None
        return lease

    def count_usage(self, usage: Usage) -> None:
        """Set `usage` for log and metrics. For `rate_limit`, which estimates it where the backend reports none."""
        self._relay.usage = usage

    # Callbacks

    def on_finish(self, callback: Finisher) -> None:
        """Run `callback(exchange)` exactly once when the request has ended, however it ends.

        The last registered callback runs first. A callback may be a coroutine function; it must not raise.
        """
        self._callbacks.add(callback)

    def before_body_release(self, look: Callable[["Exchange"], None]) -> None:
        """Run `look(exchange)` once, just before the body is released; it must be quick, and must not raise."""
        self._callbacks.add_look(look)

    def release_body(self) -> None:
        """Release the body, which was sent, and its parsed contents; nothing may use them from now on.

        For dispatch, at the commit point. `model` and `stream` keep their values.
        """
        self._callbacks.look(self)
        self._body.release()

    def finishers(self) -> list[Finisher]:
        """Return the callbacks in the order they run, and release the body and the client. For the frame, once."""
        finishers = self._callbacks.end(self)
        self._body.close()
        self._frame.let_go()
        self._chain.before_body = None
        return finishers

    # The body

    async def receive(self) -> Message:
        """Return the next message for the chain: a body that was read already, or the client's next message."""
        if self._body.begins_again():
            return {"type": "http.request", "body": await self.body(), "more_body": False}
        if self._chain.before_body is not None:
            await self._chain.ask(self)
        return await self._body.receive()

    def rewind(self) -> None:
        """Let `receive` return a body that was read once more, for another attempt."""
        self._body.rewind()

    async def body(self) -> bytes:
        """Read the whole body, once; raises Refused (400, 408, 413, 429, 503) beyond its bounds and ClientGone.

        Before the first byte is read, the plugins further in are asked whether they refuse the request.
        """
        body = self._body
        body.charge(self.caller)
        if self._chain.before_body is not None and not body.is_read:
            await self._chain.ask(self)
        return await body.read()

    def put_body(self, body: bytes) -> None:
        """Replace the client's body for the rest of the chain; the new body goes out without a content encoding."""
        self._body.put(body)

    async def json(self) -> dict[str, Any]:
        """Return the body as a JSON object, read as Ollama reads it; raises Refused (400, 413, 415) where it is none.

        The object is for reading (`edit` changes the body). Of long strings of data it holds only the beginning: see
        `proxy.kernel.body_json.parse`.
        """
        await self.body()
        return await self._body.json()

    async def names(self) -> dict[str, str]:
        """Return every model name in this request by its place; raises Refused as `json` and `names_in` do."""
        if isinstance(self._match, Match) and self._match.route.body != "raw":  # a raw body names no model
            await self.body()
        return await self._body.names()

    def edit(self, patch: Mapping[str, Any]) -> None:
        """Merge `patch` into the JSON body that `json` returned; every other byte stays as it is.

        `proxy.kernel.json_edit.edit` describes a patch. A long body is written when it is next read.
        """
        self._body.edit(patch)

    # A second attempt

    def second_attempt(self) -> "Exchange":
        """Return an exchange for a second attempt at the same request, which runs beside this one. For `retry`.

        Both share the facts, the callbacks, and the parts of class `Shared`. The second has a scope of its own that
        holds it, its own position in the body, and its own other parts. `proxy.kernel.retrying` joins the two.
        """
        second = copy(self)
        second._scope = {**self._scope, KEY: second}
        second._body = self._body.for_second_attempt(second._scope)
        for slot in PARTS.values():
            part: Part = getattr(self, slot)
            setattr(second, slot, part.for_second_attempt())
        return second

    def __repr__(self) -> str:
        return (
            f"<Exchange {self._id} {self._scope['method']} {self._scope['path']} by {self.identity or 'nobody'} "
            f"at {self.backend or 'no backend'} status={self.status} chunks={self.chunks} outcome={self.outcome}>"
        )


def _move(prefix: str, scope: Scope) -> None:
    if prefix:
        scope["path"] = scope["path"].removeprefix(prefix)
        scope["root_path"] = scope.get("root_path", "") + prefix
