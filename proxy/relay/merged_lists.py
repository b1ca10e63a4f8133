"""Merge the lists of all backends, in Ollama's exact format, so that many backends look like one Ollama.

The lists come from the results of `Probes`, so that a request for them asks no backend. The plugin ``access`` removes
the models that a caller may not use.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any, Final

import orjson

from proxy.kernel.asgi import Send, respond
from proxy.kernel.derived_models import SUFFIX, base_key, base_of
from proxy.kernel.errors import JSON, TEXT
from proxy.kernel.exchange import Exchange
from proxy.kernel.model_names import parse as parse_model
from proxy.kernel.route import Route, View
from proxy.kernel.routes import Match
from proxy.pool.backend import Backend
from proxy.pool.backend_api import moment
from proxy.pool.pool import Pool
from proxy.pool.probes import Probes

RUNNING: Final = b"Ollama is running"
_OPENAIS: Final = b"application/json"
"""The Content-Type of Ollama's lists in OpenAI's form, which end with a line feed, as its own do not."""


class MergedLists:
    """Answers the read routes that are about all backends.

    A backend's lists count for `Probes.oldest` seconds, and longer where no backend has newer ones.

    Args:
        pool: holds the backends.
        watch: probes a backend that was changed through the proxy again, before its lists are shown.
    """

    def __init__(self, pool: Pool, watch: Probes) -> None:
        self._pool = pool
        self._watch = watch
        self._lists: Mapping[View, Callable[[list[Backend]], object]] = {
            "tags": _tags,
            "running": _running,
            "version": _version,
            "models": _openai_models,
        }
        self._rendered: dict[str, tuple[object, bytes]] = {}

    async def settled(self, exchange: Exchange) -> None:
        """Wait for the first probe of each backend where the request is about all of them; see `FirstRound`."""
        view = None if exchange.route is None else exchange.route.view
        if view not in (None, "alive") and exchange.pinned is None:
            await self._pool.first_round.wait(lambda: view == "model" and self._one(exchange) is not None)

    def answers(self, exchange: Exchange) -> bool:
        """Return whether the request is about all backends and can be answered here, from the probe of at least one."""
        route = exchange.route
        view = None if route is None else route.view
        if view is None or exchange.pinned is not None or not (len(self._pool.backends) > 1 or self.hides):
            return False
        if view == "alive":
            return True
        if not self._seen():
            return False
        # Where the model is not known for certain, a backend's own answer is better.
        return view != "model" or (not self._changed() and self._one(exchange) is not None)

    @property
    def hides(self) -> bool:
        """Whether a backend has derived models, which the lists do not show."""
        return any(key.endswith(SUFFIX) for backend in self._pool.backends for key in backend.models or ())

    async def answer(self, exchange: Exchange, send: Send) -> None:
        """Answer a request for which `answers` is true."""
        route = exchange.route
        view = None if route is None else route.view
        if view == "alive":
            await _respond(send, RUNNING, TEXT)
            return
        if route is not None and view is not None and view in self._lists:
            await asyncio.gather(*map(self._watch.look, self._changed()))
            kind = JSON if route.flavor == "ollama" else _OPENAIS
            await _respond(send, self._render(route, self._lists[view]), kind)
        else:
            await _respond(send, orjson.dumps(self._one(exchange)) + b"\n", _OPENAIS)

    def _changed(self) -> list[Backend]:
        """Return the backends that were changed through the proxy since their last probe: callers must see this."""
        return [backend for backend in self._pool.backends if backend.changed_at is not None]

    def _render(self, route: Route, made: Callable[[list[Backend]], object]) -> bytes:
        """Return a list as JSON; it is made once, and again when a backend was probed."""
        backends = self._seen()
        said = tuple((backend, backend.asked_at) for backend in backends)
        before = self._rendered.get(route.path)
        if before is None or before[0] != said:
            end = b"" if route.flavor == "ollama" else b"\n"
            before = self._rendered[route.path] = said, orjson.dumps(made(backends)) + end
        return before[1]

    def _seen(self) -> list[Backend]:
        """Return the backends whose lists count, in the order of the policy file."""
        seen = [backend for backend in self._pool.backends if backend.seen_at is not None]
        then = monotonic() - self._watch.oldest
        fresh = [backend for backend in seen if (backend.seen_at or 0.0) >= then]
        return [backend for backend in fresh if backend.health.shown in ("up", "suspect")] or fresh or seen

    def _one(self, exchange: Exchange) -> dict[str, object] | None:
        """Return the model that the path names, under the name that it has there, as Ollama does; None if unknown."""
        model, match = exchange.model, exchange.match
        if model is None or not isinstance(match, Match):
            return None
        entry = _merged(self._seen(), (model.key,)).get(model.key)
        return None if entry is None else {**_openai(entry), "id": match.argument}


async def _respond(send: Send, body: bytes, kind: bytes) -> None:
    await respond(send, 200, [(b"content-type", kind), (b"content-length", b"%d" % len(body))], body)


def _merged(backends: Iterable[Backend], keys: Iterable[str] | None = None) -> dict[str, Mapping[str, object]]:
    """Return every model once, or those of `keys`, by key; of several entries, the one that was modified last."""
    found: dict[str, Mapping[str, object]] = {}
    for backend in backends:
        models = backend.models or {}
        for key in models if keys is None else keys:
            base = base_key(key)
            if base != key and base in models:  # the proxy has derived it, which nobody needs to know
                continue  # without its base it would only be a file that nobody can see, or delete
            entry = models.get(key)
            if entry is not None and (
                key not in found or moment(entry, "modified_at") > moment(found[key], "modified_at")
            ):
                found[key] = entry
    return found


def _tags(backends: list[Backend]) -> dict[str, object]:
    models = sorted(_merged(backends).values(), key=lambda entry: moment(entry, "modified_at"), reverse=True)
    return {"models": models}


def _running(backends: list[Backend]) -> dict[str, object]:
    """Return every model in memory once; of several entries, the one that stays longest."""
    found: dict[str, Mapping[str, object]] = {}
    for backend in backends:
        for entry in backend.running:
            name = parse_model(str(entry.get("model") or entry.get("name")))
            key = name.key if name is not None else str(entry.get("name"))
            if name is not None and (base := base_of(name)) is not None:
                key, entry = base.key, {**entry, "name": base.short, "model": base.short}
            if key not in found or moment(entry, "expires_at") > moment(found[key], "expires_at"):
                found[key] = entry
    return {"models": sorted(found.values(), key=lambda entry: moment(entry, "expires_at"), reverse=True)}


def _version(backends: list[Backend]) -> dict[str, object]:
    """Return the lowest version: a client may use only what every backend knows."""
    versions = [backend.version for backend in backends if backend.version]
    return {"version": min(versions, key=_version_key) if versions else "0.0.0"}


def _version_key(text: str) -> tuple[tuple[int, ...], bool, str]:
    number, dash, rest = text.partition("-")
    parts = tuple(int(part) if part.isdecimal() and len(part) < 10 else 0 for part in number.split("."))
    return parts, not dash, rest


def _openai_models(backends: list[Backend]) -> dict[str, object]:
    models: Any = _tags(backends)["models"]
    return {"object": "list", "data": [_openai(entry) for entry in models]}


def _openai(entry: Mapping[str, object]) -> dict[str, object]:
    name = parse_model(str(entry.get("name") or entry.get("model")))
    namespace = name.namespace if name is not None else "library"
    shown = str(entry.get("name") or (name.short if name else ""))
    return {"id": shown, "object": "model", "created": int(moment(entry, "modified_at")), "owned_by": namespace}
