"""The end of the chain: pass a request to the part that answers it."""

from collections.abc import Mapping

from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send
from proxy.kernel.derived_models import derived_name
from proxy.kernel.errors import ProxyError
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import RelayPart
from proxy.kernel.explain import Explanation
from proxy.kernel.previous_response import refuse_previous_response
from proxy.kernel.route import RouteClass
from proxy.kernel.routes import ALL, NoMatch
from proxy.pool.pool import Pool
from proxy.pool.request_needs import need_of
from proxy.pool.selection import Choice
from proxy.relay.dispatch import Dispatch
from proxy.relay.merged_lists import MergedLists
from proxy.relay.named_backend import NamedBackend
from proxy.relay.no_route import not_routed
from proxy.relay.unload_everywhere import UnloadEverywhere


class Router:
    """Passes each request to its route class's app, the merged lists, what needs a named backend, or dispatch.

    Args:
        pool: the backends.
        lists: answers what is known of all backends.
        dispatch: sends a request to a backend.
        own: route class → what answers its requests without any backend.
        sockets: opens the WebSocket of a route that has one; the class of such a route is ``stored``.
    """

    def __init__(
        self,
        pool: Pool,
        lists: MergedLists,
        dispatch: Dispatch,
        own: Mapping[RouteClass, ASGIApp],
        sockets: ASGIApp,
    ) -> None:
        self._pool = pool
        self._sockets = sockets
        self._own = own
        self._lists = lists
        self._dispatch = dispatch
        self._named = NamedBackend(pool, dispatch)
        self._unloads = UnloadEverywhere(pool, pseudonym=dispatch.pseudonym)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request by the part that serves its route."""
        exchange = Exchange.of(scope)
        if exchange.route is not None and (own := self._own.get(exchange.route.kind)) is not None:
            await (own if exchange.route.socket is None else self._sockets)(scope, receive, send)
            return
        several = len(self._pool.backends) > 1 or exchange.pinned is not None
        if several and self._pool.first_round.pending:
            await self._lists.settled(exchange)
        if self._lists.answers(exchange):
            await self._lists.answer(exchange, send)
            return
        if several:
            if self._named.concerns(exchange):
                await self._named(scope, receive, send)
                return
            if await self._unloads.concerns(exchange):
                await self._unloads(scope, receive, send)
                return
        await self._dispatch(scope, receive, send)

    async def explain(self, exchange: Exchange) -> Explanation:
        """Say which part or backend would answer the request; see `proxy.kernel.explain.Explains`."""
        try:
            if exchange.route is not None and exchange.route.body != "raw":
                await exchange.body()  # the choice of the backend depends on the model
            return self._prospect(exchange)
        except ProxyError as error:
            return Explanation("refuse", error.message)

    def _prospect(self, exchange: Exchange) -> Explanation:
        if isinstance(exchange.match, NoMatch):
            raise not_routed(exchange.match, exchange.scope)
        if exchange.match.route.kind in self._own:
            return Explanation("pass", "the proxy itself answers")
        if self._lists.answers(exchange):
            return Explanation("pass", "the proxy answers from what it knows of all backends")
        if len(self._pool.backends) > 1 or exchange.pinned is not None:
            if self._named.concerns(exchange):
                self._named.check(exchange)
                if exchange.pinned == ALL:
                    return Explanation("pass", "it goes to every backend")
            if exchange.pinned is None and need_of(exchange).only == "unload":
                names = ", ".join(backend.name for backend in self._unloads.backends(exchange))
                if names:
                    return Explanation("pass", f"it goes to every backend that may have the model in memory: {names}")
        refuse_previous_response(exchange)
        choice = self._pool.would(exchange)
        if not isinstance(choice, Choice):
            return Explanation("wait", "every backend that could serve it runs as many requests as it can")
        noted = exchange.part(RelayPart)
        noted.backend, noted.reason = choice.name, choice.reason
        name = exchange.model and exchange.num_ctx and derived_name(exchange.model, exchange.num_ctx)
        return Explanation("pass", f"it goes to {choice.name} ({choice.reason})" + (f" as {name}" if name else ""))
