"""The end of the chain: who answers a request that every plugin let through."""

from proxy.asgi import Receive, Scope, Send, header
from proxy.dispatch import Dispatch
from proxy.errors import Refused
from proxy.exchange import Exchange
from proxy.manage import Manage
from proxy.pool import Pool
from proxy.views import Views

BACKEND = b"x-ollama-backend"
"""The header that names a backend, for clients that can send headers but not change their URL."""


class Endpoint:
    """Passes each request to the views, to what needs one certain backend, or to dispatch."""

    def __init__(self, pool: Pool, views: Views, dispatch: Dispatch) -> None:
        self._pool = pool
        self._views = views
        self._dispatch = dispatch
        self._manage = Manage(pool, dispatch)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; raises Refused for a backend that there is not."""
        exchange = Exchange.of(scope)
        if len(self._pool.backends) > 1 or exchange.pinned is not None:
            self._pin(exchange)
            if self._views.answers(exchange):
                await self._views.answer(exchange, send)
                return
            if self._manage.concerns(exchange):
                await self._manage(scope, receive, send)
                return
        await self._dispatch(scope, receive, send)

    def _pin(self, exchange: Exchange) -> None:
        named = header(exchange.scope["headers"], BACKEND)
        if exchange.pinned is None and named is not None:
            exchange.pinned = named.decode("latin-1")
        if exchange.pinned is not None and exchange.pinned != "all" and self._pool.named(exchange.pinned) is None:
            names = ", ".join(backend.name for backend in self._pool.backends)
            raise Refused(404, f"there is no backend of that name; there are {names}", code="unknown_backend")
