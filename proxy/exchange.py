"""Exchange: everything known about one request while it runs.

There is one per request, at ``scope["ollama_proxy.exchange"]``. Each attribute has one writer, named in its section;
everybody may read. (`response_headers` is the exception: any plugin appends what the answer shall carry, whoever
gives it; the frame puts them on ``http.response.start``, so that no plugin needs to wrap `send` for a header.)
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, Literal, Protocol

from proxy import jsontext
from proxy.asgi import Header, Message, Receive, Scope, Send, header, over, without
from proxy.attempts import Attempt, Failure
from proxy.body import BodyBudget
from proxy.content import ENCODING, decoded
from proxy.errors import Flavor, Outcome, ProxyError, Refused
from proxy.models import ModelName
from proxy.models import parse as parse_model
from proxy.naming import names_in
from proxy.routes import ALL, Match, NoMatch, Route, RouteTable, flavor_of, pinned_in

KEY: Final = "ollama_proxy.exchange"

Finisher = Callable[["Exchange"], Awaitable[None] | None]


@dataclass(slots=True)
class Usage:
    """Tokens of one request.

    Attributes:
        tokens_in: prompt tokens, None where nobody knows.
        tokens_out: generated tokens.
        source: "reported" by the backend, or "estimated" from delivered chunks where no report came.
        done_reason: why generation ended, in the backend's word (``stop``, ``length``, …).
    """

    tokens_in: int | None = None
    tokens_out: int | None = None
    source: Literal["reported", "estimated"] = "reported"
    done_reason: str | None = None


class Held(Protocol):
    """A slot of a backend that is held for a request."""

    def give_back(self) -> None:
        """Give it up unused."""


class Exchange:
    """One request on its way through the chain."""

    __slots__ = (
        "_bodies",
        "_body",
        "_document",
        "_finishers",
        "_held",
        "_model",
        "_parsed",
        "_plain",
        "_replay",
        "_routes",
        "_source",
        "_strict",
        "asked",
        "attempts",
        "backend",
        "bytes_in",
        "bytes_out",
        "chunks",
        "claims",
        "client",
        "committed",
        "ended",
        "ended_at",
        "error",
        "failed",
        "first_byte_at",
        "flavor",
        "gave_up",
        "generation",
        "gone",
        "history",
        "hurry",
        "id",
        "identity",
        "lease",
        "match",
        "need",
        "outcome",
        "pinned",
        "policy",
        "queue_position",
        "queue_reason",
        "queued",
        "reading",
        "reason",
        "relayed",
        "resend",
        "response_headers",
        "scope",
        "shortcut",
        "started_at",
        "status",
        "tenant",
        "terminated",
        "ticket",
        "trace_id",
        "tried",
        "usage",
    )

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
        # frame
        self.scope = scope
        self.id = id
        self.match: Match | NoMatch = NoMatch()
        self.flavor: Flavor = "text"
        self.client = client
        self.relayed = relayed  # by one of the trusted proxies, whatever its headers say
        self.generation = generation
        self.started_at = started_at
        self.ended_at: float | None = None
        self.status: int | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        self.chunks = 0
        self.ended = False
        self.gone = False
        self.outcome: Outcome | None = None
        self.pinned: str | None = None
        self.error: ProxyError | None = None
        self.shortcut: tuple[Send, Callable[[bytes], bool]] | None = None  # what stands for which `send`, for a chunk
        # any plugin
        self.response_headers: list[Header] = []
        # tracing
        self.trace_id: str | None = None
        # auth
        self.identity: str | None = None
        self.tenant: str | None = None
        self.policy: str | None = None
        self.claims: Mapping[str, Any] = {}
        # queue
        self.queued = 0.0
        self.queue_position: int | None = None
        self.queue_reason: str | None = None
        self.ticket: object | None = None
        self.lease: Held | None = None  # dispatch takes it from here
        # retry
        self.asked: ModelName | None = None  # the model the client asked for, where another one stands in for it
        self.hurry: float | None = None  # seconds until the first byte, while another backend is left to try
        self.gave_up: str | None = None
        self.resend = False  # it sends once more what is lost on a kept connection, so that dispatch need not
        # pool
        self.need: object = None  # what it needs of a backend, see proxy/need.py
        self.history: list[Attempt] = []
        self.failed: list[Failure] = []  # what proxy/blame.py decides by; a hedge shares it
        # dispatch
        self.backend: str | None = None
        self.tried: list[str] = []
        self.attempts = 0
        self.reason: str | None = None
        self.committed = False
        self.first_byte_at: float | None = None
        self.terminated = False
        self.usage: Usage | None = None
        # body
        self.reading = 0.0
        self._source = source
        self._bodies = bodies
        self._held = 0
        self._body: bytes | None = None
        self._plain: bytes | None = None
        self._replay = False
        self._parsed = self._strict = False
        self._document: dict[str, Any] | None = None
        self._model: ModelName | None = None
        self._finishers: list[Finisher] | None = []
        self._routes = routes
        self.reroute("")

    @staticmethod
    def of(scope: Scope) -> "Exchange":
        """Return the exchange of an ASGI scope that came through the frame."""
        exchange: Exchange = scope[KEY]
        return exchange

    @property
    def route(self) -> Route | None:
        """The route of this request, None where Ollama has none."""
        return self.match.route if isinstance(self.match, Match) else None

    def reroute(self, prefix: str) -> None:
        """Move `prefix` from the front of ``scope["path"]`` to its ``root_path`` and look the route up again.

        For the frame, and for `auth`, which takes a token out of the path.
        """
        scope = self.scope
        self._move(prefix)
        pinned, prefix = pinned_in(scope["path"], scope["headers"])
        self._move(prefix)
        if prefix or self.pinned is None:
            self.pinned = pinned
        self.match = self._routes.match(scope["method"], scope["path"], scope["query_string"])
        if self.pinned == ALL and self.route is not None and self.route.kind not in ("manage", "account"):
            self.pinned = None
        self._parsed = False
        self.flavor = flavor_of(scope["path"])

    def _move(self, prefix: str) -> None:
        if prefix:
            self.scope["path"] = self.scope["path"].removeprefix(prefix)
            self.scope["root_path"] = self.scope.get("root_path", "") + prefix

    # Looking back

    def on_finish(self, callback: Finisher) -> None:
        """Run `callback(exchange)` exactly once when the request is over, however it ends.

        The last registered runs first. A callback may be a coroutine function; it must not raise.
        """
        if self._finishers is None:
            raise RuntimeError("the exchange is finished already")
        self._finishers.append(callback)

    def finishers(self) -> list[Finisher]:
        """Hand over the callbacks in the order they run, and let go of body and client. For the frame, once."""
        finishers, self._finishers = self._finishers, None
        if finishers is None:
            raise RuntimeError("the exchange is finished already")
        self._source, self.shortcut = over, None
        self._bodies.release(self._held)
        self._held = 0
        finishers.reverse()
        return finishers

    # The body

    async def receive(self) -> Message:
        """Return the chain's next message from the client: a body that was read already, or what comes."""
        if self._replay and self._body is not None:
            self._replay = False
            return {"type": "http.request", "body": self._body, "more_body": False}
        return await self._source()

    def rewind(self) -> None:
        """Let `receive` hand out a body that was read from its beginning, for another attempt."""
        self._replay = self._body is not None

    async def body(self) -> bytes:
        """Read the whole body, once; raises Refused (408, 413, 503) beyond its bounds and ClientGone."""
        if self._body is None and self.route is not None and self.route.open:
            self._body = b""  # it means nothing there, and no stranger's takes up memory
        if self._body is not None:
            return self._body
        declared = int(header(self.scope["headers"], b"content-length") or 0)
        if declared:
            self._hold(declared)
        began = monotonic()
        self._body = await self._bodies.read(self._source, self._hold_all)
        self.reading = monotonic() - began
        self._replay = True
        self._parsed = False
        return self._body

    def put_body(self, body: bytes) -> None:
        """Set the body that the rest of the chain sees, in place of what the client sent; it goes out unencoded."""
        self.scope["headers"] = without(self.scope["headers"], frozenset({ENCODING}))
        self._body = body
        self._plain = self._document = None
        self._replay = True
        self._parsed = self._strict = False

    async def json(self) -> dict[str, Any]:
        """Return the body as a JSON object that Ollama reads the same way; raises Refused (400, 413, 415) where not.

        It is for reading (`edit` changes the body), and long strings of data are there with their beginning only: see
        `proxy.jsontext.parse`.
        """
        await self.body()
        if not self._strict or self._document is None:
            self._document = jsontext.parse(self._text())
            self._strict = True
            self._parsed = False
        return self._document

    async def names(self) -> dict[str, str]:
        """Return every name of a model in this request by its place; raises Refused like `json` and `names_in`."""
        match = self.match
        if not isinstance(match, Match):
            return {}
        await self.body()
        return names_in(match, await self.json() if match.route.body == "json" else None, self._text, self.scope)

    def edit(self, patch: Mapping[str, Any]) -> None:
        """Merge `patch` into the JSON body that `json` returned; every other byte of it stays as it is.

        See `proxy.jsontext.edit` for what a patch is.
        """
        if not self._strict or self._document is None:
            raise RuntimeError("only a body that was read by json can be edited")
        document = jsontext.merged(self._document, patch)
        self.put_body(jsontext.edit(self._text(), patch))
        self._document = document
        self._strict = True

    @property
    def document(self) -> dict[str, Any] | None:
        """The body as a JSON object where it has been read and is one; for hints only, `json` is what policies use."""
        if not self._parsed:
            self._parse()
        return self._document

    @property
    def model(self) -> ModelName | None:
        """The model the request names, as far as it is known by now."""
        if not self._parsed:
            self._parse()
        return self._model

    @property
    def stream(self) -> bool:
        """Whether the caller asked for a stream, by the body or by the route's default."""
        route = self.route
        if route is None or route.stream is None:
            return False
        wanted = self.document.get("stream") if self.document else None
        return wanted if isinstance(wanted, bool) else route.stream

    def _hold(self, more: int) -> None:
        if self._finishers is None:  # who looks back at a body must not hold memory that nobody gives back
            raise Refused(413, "the request is over")
        self._bodies.hold(more, already=self._held)
        self._held += more

    def _hold_all(self, size: int) -> None:
        if size > self._held:
            self._hold(size - self._held)

    def _text(self) -> bytes:
        """Return the body without its Content-Encoding."""
        if self._plain is None:
            body = self._body or b""
            self._plain = decoded(body, self.scope, self.route, self._hold) if self.route else body
        return self._plain

    def _parse(self) -> None:
        """Find out what the body says without judging it."""
        match = self.match
        if not isinstance(match, Match) or (self._body is None and match.route.body != "none"):
            return
        try:
            if self._document is None and match.route.body == "json":
                self._document = jsontext.load(self._text())
            names = names_in(match, self._document, self._text, self.scope)
        except Refused:
            names = {}
        self._model = parse_model(next(iter(names.values()))) if names else None
        self._parsed = True

    def __repr__(self) -> str:
        return (
            f"<Exchange {self.id} {self.scope['method']} {self.scope['path']} by {self.identity or 'nobody'} "
            f"at {self.backend or 'no backend'} status={self.status} chunks={self.chunks} outcome={self.outcome}>"
        )
