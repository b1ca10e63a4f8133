"""Exchange: everything known about one request while it runs.

There is one per request, at ``scope["ollama_proxy.exchange"]``. Its attributes are for reading: to assign one is an
AttributeError, and none can be changed in place. What changes while the request runs stands in parts, a part for each
writer; see `proxy.kernel.exchange_parts`. (The list `response_headers` is the exception: any plugin appends to it what
the answer shall carry, whoever gives it; the frame puts it all on ``http.response.start``, so that no plugin needs to
wrap `send` for a header.)
"""

from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from operator import attrgetter
from typing import Any, Final, TypeVar

from proxy.kernel.asgi import Header, Message, Receive, Scope, Send
from proxy.kernel.attempts import Attempt, Failure, Held, Usage
from proxy.kernel.body_budget import BodyBudget
from proxy.kernel.client_address import block
from proxy.kernel.errors import Flavor, Outcome, ProxyError
from proxy.kernel.exchange_parts import (
    AuthPart,
    BlamePart,
    ChainPart,
    FramePart,
    Part,
    PoolPart,
    QueuePart,
    RelayPart,
    RetryPart,
    TracingPart,
)
from proxy.kernel.model_names import ModelName
from proxy.kernel.prompt_size import PromptSize
from proxy.kernel.request_body import RequestBody
from proxy.kernel.routes import ALL, Match, NoMatch, Route, RouteTable, flavor_of, pinned_in

KEY: Final = "ollama_proxy.exchange"

Finisher = Callable[["Exchange"], Awaitable[None] | None]
Ask = Callable[["Exchange"], Awaitable[None]]
P = TypeVar("P", bound=Part)

PARTS: Final[Mapping[type[Part], str]] = {
    FramePart: "_frame",
    ChainPart: "_chain",
    TracingPart: "_tracing",
    AuthPart: "_auth",
    QueuePart: "_queue",
    RetryPart: "_retry",
    PoolPart: "_pool",
    BlamePart: "_blame",
    RelayPart: "_relay",
}
"""The parts of an exchange, each with its slot."""


def _noted(part: type[Part], name: str) -> Any:
    """Return an attribute that reads the field `name` of a part, and cannot be assigned."""
    return property(attrgetter(f"{PARTS[part]}.{name}"))


def _fact(slot: str) -> Any:
    """Return an attribute that reads a slot of the exchange, or of its body, and cannot be assigned."""
    return property(attrgetter(slot))


class Exchange:
    """One request on its way through the chain.

    Args:
        scope: the ASGI scope of the request.
        source: brings what the client sends.
        id: of the request, for its log lines and for the client.
        routes: what the proxy serves.
        client: address of the client, as far as the proxies in front are believed.
        started_at: when the request came, seconds of the monotonic clock.
        bodies: the memory that request bodies may take.
        generation: number of the configuration that it began with.
        relayed: whether one of the trusted proxies sent it, whatever its headers say.
    """

    __slots__ = (
        *PARTS.values(),
        "_body", "_client", "_finishers", "_flavor", "_generation", "_id", "_last_looks", "_match", "_pinned",
        "_relayed", "_response_headers", "_routes", "_scope", "_started_at",
    )  # fmt: skip

    # Facts: as the request came, and as `reroute` finds its route.
    scope: Final[Scope] = _fact("_scope")
    id: Final[str] = _fact("_id")
    client: Final[str] = _fact("_client")
    relayed: Final[bool] = _fact("_relayed")
    generation: Final[int] = _fact("_generation")
    started_at: Final[float] = _fact("_started_at")
    match: Final[Match | NoMatch] = _fact("_match")
    flavor: Final[Flavor] = _fact("_flavor")
    pinned: Final[str | None] = _fact("_pinned")  # name of the backend that the caller named, or ALL

    # The body: whether it was read, how long that took, and what it says.
    has_body: Final[bool] = _fact("_body.is_read")
    reading: Final[float] = _fact("_body.reading")
    edition: Final[int] = _fact("_body.edition")  # of what it says: another one each time that this may have changed
    document: Final[dict[str, Any] | None] = _fact("_body.document")  # for hints; policies use `json`
    prompt_size: Final[PromptSize] = _fact("_body.prompt_size")
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
    shortcut: Final[tuple[Send, Callable[[bytes], bool]] | None] = _noted(FramePart, "shortcut")

    before_body: Final[Ask | None] = _noted(ChainPart, "before_body")
    trace_id: Final[str | None] = _noted(TracingPart, "trace_id")

    identity: Final[str | None] = _noted(AuthPart, "identity")
    tenant: Final[str | None] = _noted(AuthPart, "tenant")
    policy: Final[str | None] = _noted(AuthPart, "policy")
    claims: Final[Mapping[str, Any]] = _noted(AuthPart, "claims")

    queued: Final[float] = _noted(QueuePart, "queued")
    queue_position: Final[int | None] = _noted(QueuePart, "queue_position")
    queue_reason: Final[str | None] = _noted(QueuePart, "queue_reason")
    ticket: Final[object | None] = _noted(QueuePart, "ticket")
    lease: Final[Held | None] = _noted(QueuePart, "lease")

    asked: Final[ModelName | None] = _noted(RetryPart, "asked")
    hurry: Final[float | None] = _noted(RetryPart, "hurry")
    gave_up: Final[str | None] = _noted(RetryPart, "gave_up")
    resend: Final[bool] = _noted(RetryPart, "resend")

    need: Final[object] = _noted(PoolPart, "need")
    history: Final[tuple[Attempt, ...]] = _noted(PoolPart, "history")
    failed: Final[tuple[Failure, ...]] = _noted(BlamePart, "failed")

    backend: Final[str | None] = _noted(RelayPart, "backend")
    tried: Final[tuple[str, ...]] = _noted(RelayPart, "tried")
    attempts: Final[int] = _noted(RelayPart, "attempts")
    reason: Final[str | None] = _noted(RelayPart, "reason")
    committed: Final[bool] = _noted(RelayPart, "committed")
    first_byte_at: Final[float | None] = _noted(RelayPart, "first_byte_at")
    terminated: Final[bool] = _noted(RelayPart, "terminated")
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
        self._queue = QueuePart()
        self._retry = RetryPart()
        self._pool = PoolPart()
        self._blame = BlamePart()
        self._relay = RelayPart()
        self._last_looks: list[Callable[[Exchange], None]] = []
        self._finishers: list[Finisher] | None = []
        self._routes = routes
        self.reroute("")

    @staticmethod
    def of(scope: Scope) -> "Exchange":
        """Return the exchange of an ASGI scope that came through the frame."""
        exchange: Exchange = scope[KEY]
        return exchange

    def part(self, kind: type[P]) -> P:
        """Return a part of the exchange to write in, for the writer that the part names."""
        part: P = getattr(self, PARTS[kind])
        return part

    @property
    def route(self) -> Route | None:
        """The route of this request, None where Ollama has none."""
        return self._match.route if isinstance(self._match, Match) else None

    @property
    def caller(self) -> str:
        """Who counts as one caller where none may use up, or spoil, what all need.

        The identity; of somebody nobody knows the address (IPv6: the /64, which one subscriber owns). The two never
        come out alike.
        """
        identity = self._auth.identity
        return f"by {identity}" if identity else f"at {block(self._client)}"

    @property
    def response_headers(self) -> list[Header]:
        """What the answer carries beside its own fields, whoever gives it: any plugin appends to it."""
        return self._response_headers

    @response_headers.setter
    def response_headers(self, value: list[Header]) -> None:
        if value is not self._response_headers:  # else it is the end of a ``+=``
            raise AttributeError("response_headers can be appended to, and not be replaced by another list")

    def reroute(self, prefix: str) -> None:
        """Move `prefix` from the front of ``scope["path"]`` to its ``root_path`` and look the route up again.

        For the frame, and for `auth`, which takes a token out of the path.
        """
        scope = self._scope
        self._move(prefix)
        pinned, prefix = pinned_in(scope["path"], scope["headers"])
        self._move(prefix)
        if prefix or self._pinned is None:
            self._pinned = pinned
        self._match = self._routes.match(scope["method"], scope["path"], scope["query_string"])
        if self._pinned == ALL and self.route is not None and self.route.kind not in ("manage", "account"):
            self._pinned = None
        self._body.reroute(self._match)
        self._flavor = flavor_of(scope["path"])

    def _move(self, prefix: str) -> None:
        if prefix:
            self._scope["path"] = self._scope["path"].removeprefix(prefix)
            self._scope["root_path"] = self._scope.get("root_path", "") + prefix

    # What a writer takes from, or adds to, another one's part

    def take_lease(self) -> Held | None:
        """Return the slot that the queue got for this request, and take it from there. For dispatch."""
        lease, self._queue.lease = self._queue.lease, None
        return lease

    def forget_tried(self) -> None:
        """Let every backend be tried again. For `retry`, where another model stands in for the one asked for."""
        self._relay.tried = ()

    def count_usage(self, usage: Usage) -> None:
        """Let log and metrics tell `usage`, which was counted. For `rate_limit`: it estimates what nobody reported."""
        self._relay.usage = usage

    # Looking back

    def on_finish(self, callback: Finisher) -> None:
        """Run `callback(exchange)` exactly once when the request is over, however it ends.

        The last registered runs first. A callback may be a coroutine function; it must not raise.
        """
        if self._finishers is None:
            raise RuntimeError("the exchange is finished already")
        self._finishers.append(callback)

    def before_body_release(self, look: Callable[["Exchange"], None]) -> None:
        """Run `look(exchange)` once, while what the body says is still there: as an answer begins, or at the end.

        It must not raise, and is quick: the first chunk waits for it.
        """
        self._last_looks.append(look)

    def release_body(self) -> None:
        """Let go of the body, which was sent, and of what it says: nobody may need it from now on.

        For dispatch, at the commit point. The model, and whether a stream was asked for, stay known.
        """
        self._look_before_release()
        self._body.release()

    def _look_before_release(self) -> None:
        looks = self._last_looks.copy()
        self._last_looks.clear()
        for look in looks:
            look(self)

    def finishers(self) -> list[Finisher]:
        """Hand over the callbacks in the order they run, and let go of body and client. For the frame, once."""
        finishers, self._finishers = self._finishers, None
        if finishers is None:
            raise RuntimeError("the exchange is finished already")
        self._look_before_release()
        self._body.close()
        self._frame.shortcut = self._chain.before_body = None
        finishers.reverse()
        return finishers

    # The body

    async def receive(self) -> Message:
        """Return the chain's next message from the client: a body that was read already, or what comes."""
        if self._body.begins_again():
            return {"type": "http.request", "body": await self.body(), "more_body": False}
        if self._chain.before_body is not None:
            await self._ask()
        return await self._body.receive()

    def rewind(self) -> None:
        """Let `receive` hand out a body that was read from its beginning, for another attempt."""
        self._body.rewind()

    async def body(self) -> bytes:
        """Read the whole body, once; raises Refused (400, 408, 413, 429, 503) beyond its bounds and ClientGone.

        Before the first byte the plugins that are still to come are asked whether they refuse the request anyway.
        """
        body = self._body
        body.charge(self.caller)
        if self._chain.before_body is not None and not body.is_read:
            await self._ask()
        return await body.read()

    async def _ask(self) -> None:
        ask, self._chain.before_body = self._chain.before_body, None
        if ask is not None:
            await ask(self)

    def put_body(self, body: bytes) -> None:
        """Set the body that the rest of the chain sees, in place of what the client sent; it goes out unencoded."""
        self._body.put(body)

    async def json(self) -> dict[str, Any]:
        """Return the body as a JSON object that Ollama reads the same way; raises Refused (400, 413, 415) where not.

        It is for reading (`edit` changes the body), and long strings of data are there with their beginning only: see
        `proxy.kernel.body_json.parse`.
        """
        await self.body()
        return await self._body.json()

    async def names(self) -> dict[str, str]:
        """Return every name of a model in this request by its place; raises Refused like `json` and `names_in`."""
        if isinstance(self._match, Match):
            await self.body()
        return await self._body.names()

    def edit(self, patch: Mapping[str, Any]) -> None:
        """Merge `patch` into the JSON body that `json` returned; every other byte of it stays as it is.

        See `proxy.kernel.json_edit.edit` for what a patch is. A long body is written when it is asked for.
        """
        self._body.edit(patch)

    # A second attempt

    def second_attempt(self) -> "Exchange":
        """Return an exchange for an attempt at the same request that runs beside this one. For `retry`.

        Shared are the facts, the callbacks, and of the parts those that say so; its own are its scope, in which it
        stands, how far it has handed out the body, and the other parts.
        """
        second = copy(self)
        second._scope = {**self._scope, KEY: second}
        second._body = self._body.for_second_attempt(second._scope)
        for slot in PARTS.values():
            part: Part = getattr(self, slot)
            setattr(second, slot, part.for_second_attempt())
        return second

    def account_for(self, second: "Exchange") -> None:
        """Add to the request's attempts what its second attempt, which is over, was sent to."""
        self._relay.account_for(second._relay)
        self._pool.history += second._pool.history

    def take_answer_of(self, second: "Exchange") -> None:
        """Let what the second attempt got be what the request got."""
        self._relay.take_answer_of(second._relay)
        if self._relay.committed:
            self.release_body()

    def __repr__(self) -> str:
        return (
            f"<Exchange {self._id} {self._scope['method']} {self._scope['path']} by {self.identity or 'nobody'} "
            f"at {self.backend or 'no backend'} status={self.status} chunks={self.chunks} outcome={self.outcome}>"
        )
