"""The routes of a caller's own entries, and the app that answers them: a table, to which others add their rows."""

from collections.abc import Iterable, Mapping
from typing import Final

from proxy.kernel.acceptance import journal_unavailable
from proxy.kernel.asgi import Scope, Send
from proxy.kernel.errors import Refused, Truncated
from proxy.kernel.exchange import Exchange
from proxy.kernel.route import Route
from proxy.kernel.store import StoreUnavailable
from proxy.kernel.stored_request_handler import Handler

REQUESTS: Final = Route("/-/requests", ("GET",), "stored", summary="The caller's requests that run later")
REQUEST: Final = Route("/-/requests/{id}", ("GET",), "stored", summary="The state of a request that runs later")
END: Final = Route("/-/requests/{id}", ("DELETE",), "stored", summary="Cancel a request, or delete one that is over")
ANSWER: Final = Route("/-/requests/{id}/answer", ("GET",), "stored", summary="Its answer, from any byte")

ROUTES: Final = (REQUESTS, REQUEST, END, ANSWER)


class StoredApp:
    """Answers the routes of the class ``stored``.

    Args:
        handlers: route → what answers it.
    """

    def __init__(self, handlers: Mapping[Route, Handler]) -> None:
        self._handlers = {
            (method, route.path): handler for route, handler in handlers.items() for method in route.methods
        }

    async def __call__(self, scope: Scope, receive: object, send: Send) -> None:
        """Answer one request.

        Raises Refused (503 where the journal does not answer before the response begins); no cache may have that.
        """
        exchange = Exchange.of(scope)
        assert exchange.route is not None  # noqa: S101 (the router has found it)
        try:
            await self._answer(self._handlers[scope["method"], exchange.route.path], exchange, send)
        except Refused as refused:
            refused.headers = {"cache-control": "no-store", **refused.headers}
            raise

    async def _answer(self, handle: Handler, exchange: Exchange, send: Send) -> None:
        try:
            await handle(exchange, send)
        except StoreUnavailable as error:
            if exchange.status is not None:
                raise Truncated("the journal does not answer any more") from error
            raise journal_unavailable() from error


def routes_for(uses: Iterable[str]) -> tuple[Route, ...]:
    """Return the routes that a chain with these plugins has: those who record answers let them be read."""
    return ROUTES if {"defer", "resumable"}.intersection(uses) else ()
