"""How callers are answered who ask for what the journal keeps for them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl

import orjson

from proxy.kernel.asgi import Header, Send, respond
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange

Handler = Callable[[Exchange, Send], Awaitable[None]]
"""Answers the request of an exchange; raises Refused."""
_JSON: Final[Header] = (b"content-type", b"application/json")
NO_STORE: Final[Header] = (b"cache-control", b"no-store")
"""The field of every such answer: it is one caller's, and no cache may have it (RFC 9111, section 5.2.2.5)."""


async def send_json(send: Send, document: object, status: int = 200, more: Sequence[Header] = ()) -> None:
    """Answer with a JSON document; `more` are further header fields."""
    body = orjson.dumps(document)
    await respond(send, status, [_JSON, NO_STORE, (b"content-length", b"%d" % len(body)), *more], body)


def parameters(exchange: Exchange) -> Mapping[str, str]:
    """Return the parameters of a query; of one that comes twice the first counts."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(exchange.scope["query_string"].decode("latin-1")):
        found.setdefault(name, value)
    return found


def page_size(text: str | None, default: int, most: int) -> int:
    """Return how many entries a page has; raises Refused (400)."""
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise Refused(400, f"limit is a number from 1 to {most}")
    return min(int(text), most)
