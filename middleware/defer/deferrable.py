"""Which requests may be kept to run later, and what of them is kept."""

from proxy.kernel.body_encoding import ENCODING
from proxy.kernel.exchange import Exchange
from proxy.kernel.inner_request import is_inner
from proxy.kernel.route import Route


def deferrable(exchange: Exchange) -> Route | None:
    """Return the route of a request that may be kept, None for any other."""
    route = exchange.route
    if route is None or route.kind != "inference" or route.body not in ("json", "multipart"):
        return None
    return None if is_inner(exchange.scope) else route


async def plain_body(exchange: Exchange) -> bytes:
    """Return the body as the client sent it, decoded of its content encoding; raises Refused."""
    body = await exchange.body()
    if any(name == ENCODING for name, _ in exchange.scope["headers"]):
        await exchange.json()
        exchange.edit({})  # which takes the encoding off
        body = await exchange.body()
    return body
