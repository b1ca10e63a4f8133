"""How callers are answered who ask for what the journal keeps for them."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl

import orjson

from proxy.kernel.asgi import Header, Send, respond
from proxy.kernel.exchange import Exchange

Handler = Callable[[Exchange, Send], Awaitable[None]]
"""Answers the request of an exchange; raises Refused."""
_JSON: Final[Header] = (b"content-type", b"application/json")
_NO_STORE: Final[Header] = (b"cache-control", b"no-store")


async def send_json(send: Send, document: object, status: int = 200) -> None:
    """Answer with a JSON document."""
    await respond(send, status, [_JSON, _NO_STORE], orjson.dumps(document))


def parameters(exchange: Exchange) -> Mapping[str, str]:
    """Return the parameters of a query; of one that comes twice the first counts."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(exchange.scope["query_string"].decode("latin-1")):
        found.setdefault(name, value)
    return found
