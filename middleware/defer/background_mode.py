"""Background mode of the Responses API: the response is made later, and has its id now.

The request runs as a stream, whatever the client asked for, so that a later ``stream=true&starting_after=N`` finds its
events. Nothing else of its body changes.
"""

from secrets import token_hex

from middleware.defer.acceptance import Acceptance
from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Send
from proxy.kernel.background import PREFIX, Background
from proxy.kernel.errors import Refused, let_go
from proxy.kernel.exchange import Exchange
from proxy.kernel.json_edit import edit
from proxy.kernel.route import Route


class BackgroundMode:
    """Puts requests that ask for background mode into the journal.

    Args:
        acceptance: puts a request there.
        background: answers it.
    """

    def __init__(self, acceptance: Acceptance, background: Background) -> None:
        self._acceptance = acceptance
        self._background = background

    @staticmethod
    def concerns(route: Route) -> bool:
        """Return whether requests to `route` may ask for background mode."""
        return route.run is not None and route.run.background is not None

    @staticmethod
    async def asked_for(exchange: Exchange) -> bool:
        """Return whether the request asks for it. A body that cannot be read asks for nothing: Ollama refuses it."""
        await exchange.body()
        route, document = exchange.route, exchange.document
        member = route.run.background if route is not None and route.run is not None else None
        return document is not None and member is not None and document.get(member) is True

    async def begin(self, exchange: Exchange, send: Send) -> None:
        """Put the request into the journal and answer it; raises Refused (400, 413, 422, 429, 503, 507)."""
        document = await exchange.json()
        if document.get("store") is False:
            raise Refused(
                400,
                "background mode keeps the response until it is fetched: leave out store, or set it to true",
                code=codes.BACKGROUND_NEEDS_STORE,
            )
        exchange.edit({})  # takes off a content encoding
        stream = document.get("stream") is True
        body = await exchange.body()
        entry = await self._acceptance.put(
            exchange,
            name=PREFIX + token_hex(16),
            body=body if stream else edit(body, {"stream": True}),
            meta={"background": True},
        )
        await self._background.accepted(entry, send, stream=stream)
