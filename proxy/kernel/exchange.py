"""Exchange: everything known about one request while it runs.

There is one per request, at ``scope["ollama_proxy.exchange"]``. Each attribute has one writer, named in its section;
everybody may read. (`response_headers` is the exception: any plugin appends what the answer shall carry, whoever
gives it; the frame puts them on ``http.response.start``, so that no plugin needs to wrap `send` for a header.)
"""

from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any, Final

from proxy.kernel.asgi import Header, Message, Receive, Scope, Send, header, over, without
from proxy.kernel.attempts import Attempt, Failure, Held, Usage
from proxy.kernel.body_budget import BodyBudget, Holding
from proxy.kernel.body_contents import Contents
from proxy.kernel.body_encoding import ENCODING
from proxy.kernel.body_models import names_in
from proxy.kernel.client_address import block
from proxy.kernel.errors import Flavor, Outcome, ProxyError
from proxy.kernel.model_names import ModelName
from proxy.kernel.prompt_size import PromptSize
from proxy.kernel.routes import ALL, Match, NoMatch, Route, RouteTable, flavor_of, pinned_in

__all__ = ["KEY", "Ask", "Attempt", "Exchange", "Finisher", "Held", "Usage"]

KEY: Final = "ollama_proxy.exchange"

Finisher = Callable[["Exchange"], Awaitable[None] | None]
Ask = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One request on its way through the chain."""

    __slots__ = (
        "_body", "_contents", "_finishers", "_holding", "_last_looks", "_released", "_replay", "_routes",
        "_source", "answer_code", "asked", "attempts",
        "backend", "before_body", "bytes_in", "bytes_out", "chunks", "claims",
        "client", "committed", "edition", "ended", "ended_at", "error", "failed", "first_byte_at", "flavor",
        "gave_up", "generation", "gone", "history", "hurry", "id", "identity", "lease", "match", "need",
        "outcome", "pinned", "policy", "queue_position", "queue_reason", "queued", "reading", "reason",
        "relayed", "resend", "response_headers", "scope", "shortcut", "started_at", "status", "tenant",
        "terminated", "ticket", "trace_id", "tried", "usage",
    )  # fmt: skip

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
        self.answer_code: str | None = None  # the x-error-code of an answer that no error was raised for
        self.shortcut: tuple[Send, Callable[[bytes], bool]] | None = None  # what stands for which `send`, for a chunk
        # chain
        self.before_body: Ask | None = None  # what the plugins still to come decide before its body is read
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
        self.need: object = None  # what it needs of a backend, see proxy/pool/need.py
        self.history: list[Attempt] = []
        self.failed: list[Failure] = []  # what proxy/pool/blame.py decides by; a hedge shares it
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
        self._holding = Holding(bodies)
        self._released = False
        self._body: bytes | None = None
        self._contents: Contents  # `reroute` sets it
        self._replay = False
        self._last_looks: list[Callable[[Exchange], None]] = []
        self.edition = 0  # of what the request says: another one each time that this may have changed
        self._finishers: list[Finisher] | None = []
        self._routes = routes
        self.reroute("")

    @staticmethod
    def of(scope: Scope) -> "Exchange":
        """Return the exchange of an ASGI scope that came through the frame."""
        exchange: Exchange = scope[KEY]
        return exchange

    @property
    def error_code(self) -> str | None:
        """The code of the error that the request ended with, None where it ended with none."""
        return self.answer_code if self.error is None else self.error.code

    @property
    def route(self) -> Route | None:
        """The route of this request, None where Ollama has none."""
        return self.match.route if isinstance(self.match, Match) else None

    @property
    def caller(self) -> str:
        """Who counts as one caller where none may use up, or spoil, what all need.

        The identity; of somebody nobody knows the address (IPv6: the /64, which one subscriber owns). The two never
        come out alike.
        """
        return f"by {self.identity}" if self.identity else f"at {block(self.client)}"

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
        self._says(Contents(self._body or b""))
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
        self._look().release()
        self._body = None
        self._released, self._replay = True, False
        self._holding.release()

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
        self._holding.release()
        self._source, self.shortcut, self.before_body = over, None, None
        finishers.reverse()
        return finishers

    # The body

    async def receive(self) -> Message:
        """Return the chain's next message from the client: a body that was read already, or what comes."""
        if self._replay and self._body is not None:
            self._replay = False
            return {"type": "http.request", "body": await self.body(), "more_body": False}
        if self.before_body is not None:
            await self._ask()
        return await self._source()

    def rewind(self) -> None:
        """Let `receive` hand out a body that was read from its beginning, for another attempt."""
        self._replay = self._body is not None

    async def body(self) -> bytes:
        """Read the whole body, once; raises Refused (400, 408, 413, 429, 503) beyond its bounds and ClientGone.

        Before the first byte the plugins that are still to come are asked whether they refuse the request anyway.
        """
        if self._released:
            raise RuntimeError("the body was let go of when the answer began")
        if self._body is None and self.route is not None and self.route.open:
            self._body = b""  # it means nothing there, and no stranger's takes up memory
        self._holding.charge(self.caller)
        if self._body is None:
            if self.before_body is not None:
                await self._ask()
            declared = int(header(self.scope["headers"], b"content-length") or 0)
            if declared:
                self._holding.announce(declared)
            began = monotonic()
            self._body = await self._holding.read(self._source)
            self.reading = monotonic() - began
            self._replay = True
            encoded = header(self.scope["headers"], ENCODING) is not None
            self._says(Contents(self._body, encoded=encoded))
        contents = self._contents
        if contents.edits:
            self._send_instead(await contents.write_edits(self.caller))
        if contents.unread and isinstance(self.match, Match):
            await contents.read_ahead(self.match, self.scope, self._holding)
            self.edition += 1
        contents.refuse_excess()
        return self._body

    @property
    def has_body(self) -> bool:
        """Whether the body has been read."""
        return self._body is not None

    async def _ask(self) -> None:
        ask, self.before_body = self.before_body, None
        if ask is not None:
            await ask(self)

    def put_body(self, body: bytes) -> None:
        """Set the body that the rest of the chain sees, in place of what the client sent; it goes out unencoded."""
        self._send_instead(body)
        self._says(Contents(body))

    async def json(self) -> dict[str, Any]:
        """Return the body as a JSON object that Ollama reads the same way; raises Refused (400, 413, 415) where not.

        It is for reading (`edit` changes the body), and long strings of data are there with their beginning only: see
        `proxy.kernel.body_json.parse`.
        """
        await self.body()
        return await self._contents.checked_document(self.caller)

    async def names(self) -> dict[str, str]:
        """Return every name of a model in this request by its place; raises Refused like `json` and `names_in`."""
        match = self.match
        if not isinstance(match, Match):
            return {}
        await self.body()
        if match.route.body == "json":
            return names_in(match, await self.json(), b"", self.scope)
        contents = self._look()
        contents.refuse_flaw()
        return dict(contents.names)

    def edit(self, patch: Mapping[str, Any]) -> None:
        """Merge `patch` into the JSON body that `json` returned; every other byte of it stays as it is.

        See `proxy.kernel.json_edit.edit` for what a patch is. A long body is written when it is asked for.
        """
        contents = self._contents.edited(patch)
        if not contents.edits:
            self._send_instead(contents.text)
        self._says(contents)

    @property
    def document(self) -> dict[str, Any] | None:
        """The body as a JSON object where it has been read and is one; for hints only, `json` is what policies use.

        None from the commit point on: see `release_body`.
        """
        return self._look().document

    @property
    def prompt_size(self) -> PromptSize:
        """How much of `document` a model has to read; of a long one it was found out off the loop."""
        return self._look().prompt_size

    @property
    def model(self) -> ModelName | None:
        """The model the request names, as far as it is known by now."""
        return self._look().model

    @property
    def stream(self) -> bool:
        """Whether the caller asked for a stream, by the body or by the route's default."""
        route = self.route
        if route is None or route.stream is None:
            return False
        wanted = self._look().stream
        return route.stream if wanted is None else wanted

    def _send_instead(self, body: bytes) -> None:
        self.scope["headers"] = without(self.scope["headers"], frozenset({ENCODING}))
        self._body = body
        self._replay = True

    def _says(self, contents: Contents) -> None:
        self._contents = contents
        self.edition += 1

    def _look(self) -> Contents:
        """Return what the body says, as far as it can be told at once: of one that takes long, `body` finds out."""
        contents, match = self._contents, self.match
        if not contents.known and isinstance(match, Match) and (self._body is not None or match.route.body == "none"):
            contents.glance(match, self.scope)
        return contents

    def __repr__(self) -> str:
        return (
            f"<Exchange {self.id} {self.scope['method']} {self.scope['path']} by {self.identity or 'nobody'} "
            f"at {self.backend or 'no backend'} status={self.status} chunks={self.chunks} outcome={self.outcome}>"
        )
