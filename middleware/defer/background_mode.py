"""Background mode of the Responses API: the response is made later, and has its id now.

The request runs as a stream, whatever the client asked for, so that a later ``stream=true&starting_after=N`` finds its
events. Nothing else of its body changes.
"""

from typing import NamedTuple

from proxy.kernel import error_codes as codes
from proxy.kernel.acceptance import new_id
from proxy.kernel.background import PREFIX
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.json_edit import edit
from proxy.kernel.route import Route


class InBackground(NamedTuple):
    """A request for background mode.

    Attributes:
        id: the id of its response.
        body: what is to run.
        stream: whether the client wants the events now.
    """

    id: str
    body: bytes
    stream: bool


def may_ask(route: Route | None) -> bool:
    """Return whether requests to `route` may ask for background mode."""
    return route is not None and route.run is not None and route.run.background is not None


async def asked_for(exchange: Exchange) -> bool:
    """Return whether a request asks for background mode. A body that cannot be read asks for nothing."""
    await exchange.body()
    route, document = exchange.route, exchange.document
    member = route.run.background if route is not None and route.run is not None else None
    return document is not None and member is not None and document.get(member) is True


async def in_background(exchange: Exchange, body: bytes) -> InBackground:
    """Return what a request asks for that asks for background mode; raises Refused (400).

    Args:
        exchange: the request.
        body: its body, decoded of its content encoding.
    """
    document = await exchange.json()
    if document.get("store") is False:
        raise Refused(
            400,
            "background mode keeps the response until it is fetched: leave out store, or set it to true",
            code=codes.BACKGROUND_NEEDS_STORE,
        )
    stream = document.get("stream") is True
    return InBackground(new_id(PREFIX), body if stream else edit(body, {"stream": True}), stream)
