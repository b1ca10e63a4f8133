"""Which backend answered a conversation before: its prompt is still in that one's cache."""

from collections import OrderedDict
from hashlib import blake2b
from typing import Any, Final

import orjson

from proxy.asgi import header
from proxy.exchange import Exchange

SESSION: Final = b"x-session-id"
REMEMBERED: Final = 10_000
"""Conversations remembered; beyond it the one that was silent longest is forgotten."""
BEGINNING: Final = 4096
"""Bytes of a conversation's beginning that tell it from others."""


def conversation(exchange: Exchange) -> bytes | None:
    """Return what names the conversation that `exchange` is part of; None where nothing does.

    That is the caller's ``X-Session-Id``, or the model and how the conversation began, which is sent with every turn.
    """
    session = header(exchange.scope["headers"], SESSION)
    model = exchange.model
    begin = session or _beginning(exchange.document)
    if begin is None or model is None:
        return None
    who = f"{model.key}\0{exchange.tenant}\0{exchange.identity}\0".encode(errors="surrogatepass")
    return blake2b(who + begin, digest_size=16).digest()


def _beginning(document: dict[str, Any] | None) -> bytes | None:
    if not document:
        return None
    begin: object = None
    messages = document.get("messages")
    if isinstance(messages, list) and messages:
        firsts = [message for message in messages[:4] if isinstance(message, dict)]
        first_user = next((n for n, message in enumerate(firsts) if message.get("role") == "user"), len(firsts))
        begin = [document.get("system"), *firsts[: first_user + 1]]
    else:
        begin = document.get("prompt") or document.get("input")
    try:
        return orjson.dumps(begin)[:BEGINNING] if begin else None
    except (TypeError, orjson.JSONEncodeError):
        return None


class Memory:
    """Conversation → backend, bounded."""

    def __init__(self, size: int = REMEMBERED) -> None:
        self._size = size
        self._backends: OrderedDict[bytes, str] = OrderedDict()

    def get(self, key: bytes) -> str | None:
        """Return the backend that answered this conversation last."""
        return self._backends.get(key)

    def put(self, key: bytes, backend: str) -> None:
        """Remember that `backend` answers it now."""
        self._backends[key] = backend
        self._backends.move_to_end(key)
        if len(self._backends) > self._size:
            self._backends.popitem(last=False)

    def __len__(self) -> int:
        return len(self._backends)
