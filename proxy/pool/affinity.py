"""Affinity: which backend answered a conversation last, as the prompt is still in its cache."""

from typing import Any, Final

from proxy.kernel.asgi import header
from proxy.kernel.exchange import Exchange
from proxy.kernel.lru import Recent

SESSION: Final = b"x-session-id"
"""The header by which a caller names a conversation."""
REMEMBERED: Final = 10_000
"""Largest number of remembered conversations; beyond it the one that was idle longest is dropped."""
BEGINNING: Final = 1024
"""How many characters of the system prompt and of the first question identify a conversation."""


def conversation_of(exchange: Exchange) -> int | None:
    """Return the key of the conversation that `exchange` belongs to; None where it belongs to none.

    The caller's ``X-Session-Id`` identifies the conversation; without it, the model and the beginning of the messages,
    which come again with every turn. Embeddings belong to none, as a backend caches no prompt for them.
    """
    route, model = exchange.route, exchange.model
    if route is None or not route.writes or model is None:
        return None
    begin = header(exchange.scope["headers"], SESSION) or _beginning(exchange.document)
    # Python's keyed hash: a caller cannot aim at its 64 bits, and two conversations that collide share a backend.
    return None if begin is None else hash((model.key, exchange.tenant, exchange.identity, begin))


def _beginning(document: dict[str, Any] | None) -> tuple[str, str] | None:
    """Return the beginnings of the system prompt and of the user's first message, in any of the APIs."""
    if not document:
        return None
    system = _words(document.get("system") or document.get("instructions"))
    first = document.get("messages") or document.get("prompt") or document.get("input")
    if isinstance(first, list):
        for message in first[:4]:
            if not isinstance(message, dict):
                break
            words = _words(message.get("content"))
            if message.get("role") == "user":
                return system, words
            system += words
        return (system, "") if system else None
    words = _words(first)
    return (system, words) if words else None


def _words(content: object) -> str:
    """Return the beginning of a text, or of the first text part of a message."""
    if isinstance(content, list):
        content = next((part["text"] for part in content[:4] if isinstance(part, dict) and part.get("text")), None)
    return content[:BEGINNING] if isinstance(content, str) else ""


class Affinity:
    """The name of the backend that answered each conversation last; bounded."""

    def __init__(self, size: int = REMEMBERED) -> None:
        self._backends: Recent[int, str] = Recent(size)

    def get(self, key: int) -> str | None:
        """Return the backend that answered this conversation last, None where it is not remembered."""
        return self._backends.get(key)

    def put(self, key: int, backend: str) -> None:
        """Remember that `backend` answers this conversation."""
        self._backends.note(key, backend)

    def drop(self, key: int, backend: str) -> None:
        """Forget the conversation, whose request failed, if `backend` answered it last."""
        if self._backends.get(key) == backend:
            del self._backends[key]

    def __len__(self) -> int:
        return len(self._backends)
