"""One Ollama out of many: the lists of all backends merged, in Ollama's exact shape.

They are made from what `Watch` saw, so that asking for them asks no backend. What a caller may not use is taken out
above, by ``access``.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final

import orjson

from proxy.asgi import Header, Send
from proxy.backend import Backend
from proxy.errors import JSON, TEXT
from proxy.exchange import Exchange
from proxy.models import parse as parse_model
from proxy.pool import Pool

RUNNING: Final = b"Ollama is running"


class Views:
    """Answers the read routes that are about all backends.

    Args:
        pool: whose backends are shown.
        oldest: seconds after which what a backend said is left out, unless no backend said anything since.
    """

    def __init__(self, pool: Pool, *, oldest: float) -> None:
        self._pool = pool
        self._oldest = oldest
        self._views: Mapping[str, Callable[[list[Backend]], object]] = {
            "/api/tags": _tags,
            "/api/ps": _running,
            "/api/version": _version,
            "/v1/models": _openai_models,
        }

    def answers(self, exchange: Exchange) -> bool:
        """Whether this is a question about all backends that we can answer: there are several, and one was seen."""
        route = exchange.route
        if route is None or route.kind != "read" or exchange.pinned is not None or len(self._pool.backends) < 2:
            return False
        if route.path == "/":
            return True
        if not self._seen():
            return False
        return route.path in self._views or (route.path == "/v1/models/{model}" and self._one(exchange) is not None)

    async def answer(self, exchange: Exchange, send: Send) -> None:
        """Answer what `answers` said yes to."""
        route = exchange.route
        path = route.path if route is not None else ""
        if path == "/":
            await _respond(send, RUNNING, TEXT)
        elif path in self._views:
            await _respond(send, orjson.dumps(self._views[path](self._seen())), JSON)
        else:
            await _respond(send, orjson.dumps(self._one(exchange)), JSON)

    def _seen(self) -> list[Backend]:
        """Return the backends whose word still counts, in the order of the policy file."""
        seen = [backend for backend in self._pool.backends if backend.seen_at is not None]
        now = monotonic()
        fresh = [backend for backend in seen if now - (backend.seen_at or 0.0) <= self._oldest]
        return [backend for backend in fresh if backend.health.usable(now)] or fresh or seen

    def _one(self, exchange: Exchange) -> dict[str, object] | None:
        model = exchange.model
        entry = _merged(self._seen()).get(model.key) if model is not None else None
        return None if entry is None else _openai(entry)


async def _respond(send: Send, body: bytes, kind: bytes) -> None:
    headers: list[Header] = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _merged(backends: Iterable[Backend]) -> dict[str, Mapping[str, object]]:
    """Return every model once, by key; of several the entry that was modified last."""
    found: dict[str, Mapping[str, object]] = {}
    for backend in backends:
        for key, entry in (backend.models or {}).items():
            if key not in found or _moment(entry, "modified_at") > _moment(found[key], "modified_at"):
                found[key] = entry
    return found


def _tags(backends: list[Backend]) -> dict[str, object]:
    models = sorted(_merged(backends).values(), key=lambda entry: _moment(entry, "modified_at"), reverse=True)
    return {"models": models}


def _running(backends: list[Backend]) -> dict[str, object]:
    """Every model in memory once; of several the one that stays longest."""
    found: dict[str, Mapping[str, object]] = {}
    for backend in backends:
        for entry in backend.running:
            name = parse_model(str(entry.get("model") or entry.get("name")))
            key = name.key if name is not None else str(entry.get("name"))
            if key not in found or _moment(entry, "expires_at") > _moment(found[key], "expires_at"):
                found[key] = entry
    return {"models": sorted(found.values(), key=lambda entry: _moment(entry, "expires_at"), reverse=True)}


def _version(backends: list[Backend]) -> dict[str, object]:
    """The lowest: a client may use only what every backend knows."""
    versions = [backend.version for backend in backends if backend.version]
    return {"version": min(versions, key=_version_key) if versions else "0.0.0"}


def _version_key(text: str) -> tuple[tuple[int, ...], bool, str]:
    number, dash, rest = text.partition("-")
    parts = tuple(int(part) if part.isdigit() else 0 for part in number.split("."))
    return parts, not dash, rest


def _openai_models(backends: list[Backend]) -> dict[str, object]:
    models: Any = _tags(backends)["models"]
    return {"object": "list", "data": [_openai(entry) for entry in models]}


def _openai(entry: Mapping[str, object]) -> dict[str, object]:
    name = parse_model(str(entry.get("name") or entry.get("model")))
    namespace = name.namespace if name is not None else "library"
    shown = str(entry.get("name") or (name.short if name else ""))
    return {"id": shown, "object": "model", "created": int(_moment(entry, "modified_at")), "owned_by": namespace}


def _moment(entry: Mapping[str, object], field: str) -> float:
    """Return a time of Ollama's (RFC 3339, nanoseconds) in seconds since 1970; 0 where there is none."""
    text = entry.get(field)
    if not isinstance(text, str):
        return 0.0
    head, dot, tail = text.partition(".")
    if dot:
        digits = len(tail) - len(tail.lstrip("0123456789"))
        text = f"{head}.{tail[: min(digits, 6)]}{tail[digits:]}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
