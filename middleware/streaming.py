"""`streaming`: how answers are passed on.

The plugin writes its decision to the exchange, and does not see the answer itself; `proxy.relay` acts on the decision.
"""

from collections.abc import Awaitable
from typing import Annotated, Any, Final, Literal

from proxy.kernel.asgi import UNBUFFERED, ASGIApp, Header, Receive, Scope, Send
from proxy.kernel.body_json import fold
from proxy.kernel.errors import Refused, Unterminated, let_go
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import StreamingPart
from proxy.kernel.explain import Explanation
from proxy.kernel.route import Route
from proxy.kernel.units import Duration, Least, format_duration

_EVENTS: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/event-stream"),
    (b"x-content-type-options", b"nosniff"),
    UNBUFFERED,
)
"""The fields that a relayed stream has, for one that begins with a heartbeat."""
_UNCACHED: Final[tuple[Header, ...]] = ((b"cache-control", b"no-cache"),)
_OPTIONS: Final = "stream_options"
_WANTED: Final = "include_usage"


class Streaming:
    """Decides how answers are passed on. Without it in the chain, its default options hold.

    Args:
        unterminated: the rule for a generated answer that ended cleanly at the transport, but without its terminator
            (`done:true`, `[DONE]`, `message_stop`, `response.completed`), as Ollama ends one when the model repeats
            itself. `auto` passes it on as it came where the model repeated itself, or where that cannot be seen, and
            breaks every other one off. `pass` passes each on as it came. `error` breaks each off, as if the backend
            had died.
        include_usage: `add` asks the backend for the token counts of each OpenAI stream (`/v1/chat/completions` and
            `/v1/completions`), so that limits, log and metrics have exact counts. Where the client did not ask for
            them by `stream_options: {include_usage: true}`, they are taken out of the answer again. `keep` leaves
            requests and answers as they are; counts that are not reported are then estimated.
        heartbeat: how often a comment (`: heartbeat`) is sent to a client that asked for server-sent events, until the
            first byte of the answer is there, for a CDN that cuts what is silent for long; `15s`. Never sent where left
            out. The first one commits status 200, so a later error comes as the last record of the stream. The plugin
            must be above `queue`, so that requests that wait there get heartbeats too, and below plugins that wrap
            `send`, which switch them off.
    """

    stands_above: Final = {"heartbeat": ("queue",)}
    """See `proxy.chain.plugin_lookup.Plugin`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        unterminated: Unterminated = "auto",
        include_usage: Literal["keep", "add"] = "keep",
        heartbeat: Annotated[Duration, Least("1s")] | None = None,
    ) -> None:
        self.app = app
        self._unterminated = unterminated
        self._adds_usage = include_usage == "add"
        self._heartbeat = heartbeat
        self._reads_body = self._adds_usage or heartbeat is not None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Write the decision to the exchange; nothing is done for each chunk."""
        if scope["type"] == "http":
            exchange = Exchange.of(scope)
            exchange.part(StreamingPart).unterminated = self._unterminated
            route = exchange.route
            if self._reads_body and route is not None and route.streams_events:
                return self._act(exchange, route, scope, receive, send)
        return self.app(scope, receive, send)

    async def _act(self, exchange: Exchange, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        """Act on a request for a stream of events, if its body can be read."""
        document = await _document(exchange)
        if document is not None and exchange.stream:
            if self._adds_usage and _lacks_counts(route, document):
                exchange.edit({_OPTIONS: {_WANTED: True}})
                exchange.part(StreamingPart).usage_added = True
            if self._heartbeat is not None and exchange.beat is not None:
                uncached = route.run is not None and route.run.uncached
                exchange.beat(send, self._heartbeat, [*_EVENTS, *(_UNCACHED if uncached else ())])
        await self.app(scope, receive, send)

    async def explain(self, exchange: Exchange) -> Explanation:
        """Explain what would be done with an answer that lacks its terminator, with heartbeats and token counts."""
        route = exchange.route
        if route is None or route.kind != "inference" or not route.writes:
            return Explanation("skip", "its answer is no generated text")
        exchange.part(StreamingPart).unterminated = self._unterminated
        said = f"an answer that ends without its terminator: {self._unterminated}"
        document = await _document(exchange) if self._reads_body and route.streams_events else None
        if document is None or not exchange.stream:
            return Explanation("pass", said)
        if self._heartbeat is not None:
            said += f"; a heartbeat every {format_duration(self._heartbeat)} until it begins"
        if self._adds_usage and _lacks_counts(route, document):
            return Explanation("change", f"{said}; token counts are asked for, and taken out of the answer")
        return Explanation("pass", said)


async def _document(exchange: Exchange) -> dict[str, Any] | None:
    """Return the JSON object of the body; None where it is none, or can be read in two ways.

    Raises Refused as `Exchange.body` does.
    """
    await exchange.body()
    try:
        return await exchange.json()
    except Refused as error:
        let_go(error)
        return None


def _lacks_counts(route: Route, document: dict[str, Any]) -> bool:
    """Return whether the request has to ask for token counts and does not; False where Ollama would refuse it."""
    if route.run is None or not route.run.counts_on_request:
        return False
    options = document.get(_OPTIONS)
    if options is None:
        return True
    if not isinstance(options, dict) or any(fold(key) == _WANTED != key for key in options):
        return False
    wanted = options.get(_WANTED)
    return wanted is None or wanted is False
