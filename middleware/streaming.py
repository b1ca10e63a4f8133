"""`streaming`: how answers are passed on.

The plugin writes its decision to the exchange, and does not see the answer itself; `proxy.relay` acts on the decision.
"""

from collections.abc import Awaitable
from typing import Any, Final, Literal

from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send
from proxy.kernel.body_json import fold
from proxy.kernel.errors import Refused, Unterminated, let_go
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import StreamingPart
from proxy.kernel.explain import Explanation

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
    """

    def __init__(
        self, app: ASGIApp, *, unterminated: Unterminated = "auto", include_usage: Literal["keep", "add"] = "keep"
    ) -> None:
        self.app = app
        self._unterminated = unterminated
        self._adds_usage = include_usage == "add"

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Write the decision to the exchange; nothing is done for each chunk."""
        if scope["type"] == "http":
            exchange = Exchange.of(scope)
            exchange.part(StreamingPart).unterminated = self._unterminated
            if self._adds_usage and _may_lack_counts(exchange):
                return self._add_usage(exchange, scope, receive, send)
        return self.app(scope, receive, send)

    async def _add_usage(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        document = await _document(exchange)
        if document is not None and exchange.stream and _lacks_counts(document):
            exchange.edit({_OPTIONS: {_WANTED: True}})
            exchange.part(StreamingPart).usage_added = True
        await self.app(scope, receive, send)

    async def explain(self, exchange: Exchange) -> Explanation:
        """Explain what would be done with an answer that lacks its terminator, and with token counts."""
        route = exchange.route
        if route is None or route.kind != "inference" or not route.writes:
            return Explanation("skip", "its answer is no generated text")
        exchange.part(StreamingPart).unterminated = self._unterminated
        said = f"an answer that ends without its terminator: {self._unterminated}"
        if self._adds_usage and _may_lack_counts(exchange):
            document = await _document(exchange)
            if document is not None and exchange.stream and _lacks_counts(document):
                return Explanation("change", f"{said}; token counts are asked for, and taken out of the answer")
        return Explanation("pass", said)


def _may_lack_counts(exchange: Exchange) -> bool:
    """Return whether streams of the route have token counts only where the request asks for them."""
    route = exchange.route
    return route is not None and route.run is not None and route.run.counts_on_request


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


def _lacks_counts(document: dict[str, Any]) -> bool:
    """Return whether the request asks for no token counts and can be made to; not where Ollama would refuse it."""
    options = document.get(_OPTIONS)
    if options is None:
        return True
    if not isinstance(options, dict) or any(fold(key) == _WANTED != key for key in options):
        return False
    wanted = options.get(_WANTED)
    return wanted is None or wanted is False
