"""The actions of an operator: end requests, drain backends, unload models, load the policy file again.

The log names who did each of them.
"""

from collections.abc import Mapping
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response

from proxy.kernel import error_codes as codes
from proxy.kernel.errors import Refused, UpstreamError
from proxy.kernel.exchange import Exchange
from proxy.kernel.model_names import parse as parse_model
from proxy.ops.answers import failed, json
from proxy.ops.app_protocol import Engine
from proxy.ops.document_types import Done, Reloaded
from proxy.ops.events import Hub
from proxy.ops.stored_entries import reached, states_of, unknown
from proxy.pool.backend import Backend
from proxy.pool.backend_api import fetch_json

log = structlog.get_logger("ollama_proxy.ops")

UNLOADING: float = 10.0
"""Seconds that a backend may take to answer the request to unload a model."""


class Actions:
    """The operations that change something. The chain and `check_change` have decided before that the caller may."""

    def __init__(self, engine: Engine, hub: Hub) -> None:
        self._engine = engine
        self._hub = hub
        engine.peers.on("cancel", self._cancel)
        engine.peers.on("drain", self._drain)
        engine.peers.on("unloaded", self._unloaded)

    async def cancel(self, request: Request) -> Response:
        """End a running request."""
        name = request.path_params["id"]
        by = _who(request)
        if not any(answer.said for answer in await self._engine.peers.ask("cancel", id=name)):
            raise Refused(404, "no request of that id is running", code=codes.UNKNOWN_REQUEST)
        log.warning("request_cancelled", request_id=name, by=by)
        return json(Done(f"cancelled {name}"))

    async def drain(self, request: Request) -> Response:
        """Stop sending new requests to a backend."""
        return await self._set_draining(request, True)

    async def undrain(self, request: Request) -> Response:
        """Send requests to a backend again."""
        return await self._set_draining(request, False)

    async def _set_draining(self, request: Request, draining: bool) -> Response:
        backend = self._backend(request)
        answers = await self._engine.peers.ask("drain", backend=backend.name, draining=draining)
        active = sum(answer.said or 0 for answer in answers)
        log.warning("backend_drained" if draining else "backend_undrained", backend=backend.name, by=_who(request))
        left = f", which still runs {active} requests" if draining and active else ""
        return json(Done(f"{'drained' if draining else 'undrained'} {backend.name}{left}"))

    async def unload(self, request: Request) -> Response:
        """Unload a model from a backend: send a prompt without text and with ``keep_alive: 0``."""
        backend = self._backend(request)
        model = parse_model(request.query_params.get("model", ""))
        if model is None:
            raise Refused(400, "name the model: ?model=llama3.2")
        try:
            await fetch_json(
                backend, b"/api/generate", timeout=UNLOADING, document={"model": model.full, "keep_alive": 0}
            )
        except UpstreamError as error:
            raise Refused(
                502, f"{backend.name} did not unload it: {error.message}", code=codes.UNLOAD_FAILED
            ) from error
        await self._engine.peers.ask("unloaded", backend=backend.name, model=model.key)
        log.warning("model_unloaded", backend=backend.name, model=model.short, by=_who(request))
        return json(Done(f"unloaded {model.short} from {backend.name}"))

    async def reload(self, request: Request) -> Response:
        """Load the policy file again."""
        reloader = self._engine.reloader
        if reloader is None:
            raise Refused(409, "this proxy was started without a policy file", code=codes.NO_FILE)
        log.warning("reload_asked", by=_who(request))
        result = await reloader.ask()
        self._hub.look()
        document = Reloaded(result.generation, list(result.problems), list(result.restart))
        return failed(document, 422, codes.INVALID_POLICY) if result.problems else json(document)

    async def journal_cancel(self, request: Request) -> Response:
        """End a deferred request or a batch."""
        name, by = request.path_params["id"], _who(request)
        with reached():
            entry = await self._engine.journal.cancel(name, "an operator cancelled it")
        if entry is None:
            raise unknown()
        if entry.state != "cancelled":
            raise Refused(409, f"{name} is {entry.state} already", code=codes.ENTRY_NOT_READY)
        self._engine.webhooks.notify(entry)
        log.warning("entry_cancelled", entry=name, by=by)
        return json(Done(f"cancelled {name}"))

    async def journal_retry(self, request: Request) -> Response:
        """Queue a deferred request again that has not completed."""
        name = request.path_params["id"]
        with reached():
            entry = await self._engine.journal.retry(name)
        if entry is None:
            raise unknown()
        if entry.state != "queued":
            raise Refused(
                409,
                f"{name} is a {entry.kind} that is {entry.state}; a request is retried that is dead, failed, cancelled "
                "or expired",
                code=codes.ENTRY_NOT_READY,
            )
        log.warning("entry_retried", entry=name, by=_who(request))
        return json(Done(f"queued {name} again"))

    async def purge(self, request: Request) -> Response:
        """Delete deferred requests that are over."""
        states = states_of(request.query_params.get("state", ""), over=True)
        with reached():
            count = await self._engine.journal.purge(states)
        log.warning("entries_purged", entries=count, states=list(states), by=_who(request))
        return json(Done(f"deleted {count} requests"))

    # The part of each worker

    async def _cancel(self, about: Mapping[str, Any]) -> bool:
        return self._engine.frame.cancel(about["id"], "an operator cancelled this request")

    async def _drain(self, about: Mapping[str, Any]) -> int:
        """Return how many requests the backend runs."""
        backend = self._engine.pool.named(about["backend"])
        if backend is None:
            return 0
        backend.health.draining = about["draining"]
        self._engine.pool.changed()
        return backend.active

    async def _unloaded(self, about: Mapping[str, Any]) -> None:
        backend = self._engine.pool.named(about["backend"])
        if backend is not None:
            self._engine.pool.outcomes.unloaded(backend, about["model"])

    def _backend(self, request: Request) -> Backend:
        name = request.path_params["backend"]
        backend = self._engine.pool.named(name)
        if backend is None:
            names = ", ".join(backend.name for backend in self._engine.pool.backends)
            raise Refused(404, f"there is no backend of that name; there are {names}", code=codes.UNKNOWN_BACKEND)
        return backend


def _who(request: Request) -> str:
    exchange = Exchange.of(request.scope)
    return exchange.identity or exchange.client
