"""Which backend answered a conversation before: its prompt is still in that one's cache."""

from typing import Any, Final

from proxy.kernel.asgi import header
from proxy.kernel.exchange import Exchange
from proxy.kernel.recent import Recent

SESSION: Final = b"x-session-id"
REMEMBERED: Final = 10_000
"""Affinity remembered; beyond it the one that was silent longest is forgotten."""
BEGINNING: Final = 1024
"""Characters of the system prompt and of the first question that tell a conversation from others."""


def conversation_of(exchange: Exchange) -> int | None:
    """Return a number for the conversation that `exchange` is part of; None where it is part of none.

    A conversation is known by the caller's ``X-Session-Id``, or by the model and how it began, which is sent with every
    turn. Embeddings are none: nothing of a prompt is kept for them.
    """
    route, model = exchange.route, exchange.model
    if route is None or route.repeat != "costly" or model is None:
        return None
    begin = header(exchange.scope["headers"], SESSION) or _beginning(exchange.document)
    # The interpreter's own keyed hash: 64 bits nobody outside can aim at, and if two meet they share a backend.
    return None if begin is None else hash((model.key, exchange.tenant, exchange.identity, begin))


def _beginning(document: dict[str, Any] | None) -> tuple[str, str] | None:
    """Return the first words of the system prompt and of the user, in whichever API they are said."""
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
    """Return the beginning of a text, or of the first text of a message in parts."""
    if isinstance(content, list):
        content = next((part["text"] for part in content[:4] if isinstance(part, dict) and part.get("text")), None)
    return content[:BEGINNING] if isinstance(content, str) else ""


class Affinity:
    """Conversation → backend, bounded."""

    def __init__(self, size: int = REMEMBERED) -> None:
        self._backends: Recent[int, str] = Recent(size)

    def get(self, key: int) -> str | None:
        """Return the backend that answered this conversation last."""
        return self._backends.get(key)

    def put(self, key: int, backend: str) -> None:
        """Remember that `backend` answers it now."""
        self._backends.note(key, backend)

    def drop(self, key: int, backend: str) -> None:
        """Forget that `backend` answers it: it failed there."""
        if self._backends.get(key) == backend:
            del self._backends[key]

    def __len__(self) -> int:
        return len(self._backends)
