"""`streaming`: how answers are passed on.

The plugin writes its decision to the exchange, and does not see the answer itself; `proxy.relay` acts on the decision.
"""

from collections.abc import Awaitable

from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send
from proxy.kernel.errors import Unterminated
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import StreamingPart
from proxy.kernel.explain import Explanation


class Streaming:
    """Decides how answers are passed on. Without it in the chain, its default options hold.

    Args:
        unterminated: the rule for a generated answer that ended cleanly at the transport, but without its terminator
            (`done:true`, `[DONE]`, `message_stop`, `response.completed`), as Ollama ends one when the model repeats
            itself. `auto` passes it on as it came where the model repeated itself, or where that cannot be seen, and
            breaks every other one off. `pass` passes each on as it came. `error` breaks each off, as if the backend
            had died.
    """

    def __init__(self, app: ASGIApp, *, unterminated: Unterminated = "auto") -> None:
        self.app = app
        self._unterminated = unterminated

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Write the decision to the exchange; nothing is done for each chunk."""
        if scope["type"] == "http":
            Exchange.of(scope).part(StreamingPart).unterminated = self._unterminated
        return self.app(scope, receive, send)

    async def explain(self, exchange: Exchange) -> Explanation:
        """Explain what would be done with an answer that lacks its terminator."""
        route = exchange.route
        if route is None or route.kind != "inference" or not route.writes:
            return Explanation("skip", "its answer is no generated text")
        exchange.part(StreamingPart).unterminated = self._unterminated
        return Explanation("pass", f"an answer that ends without its terminator: {self._unterminated}")
