"""Send a request whose API has no place for ``num_ctx`` to a model that has it, which is made at the backend once.

The request is for ``llama3.2``; to the backend goes ``llama3.2:latest-ctx32k-by-proxy``, made by ``/api/create`` from
that backend's own ``llama3.2``. It shares its files, and in memory its runner: with the same context Ollama does not
load one again for the other.
"""

import asyncio
from time import monotonic
from typing import Any, Final, NamedTuple

import httpx
import structlog

from proxy.kernel import json_edit
from proxy.kernel.body_models import model_member
from proxy.kernel.derived_models import derived_name, underived
from proxy.kernel.errors import UpstreamError, let_go
from proxy.kernel.exchange import Exchange
from proxy.kernel.lru import Recent
from proxy.kernel.model_names import ModelName
from proxy.kernel.model_names import parse as parse_model
from proxy.kernel.worker_threads import off_loop
from proxy.pool.backend import Backend
from proxy.pool.backend_api import fetch_json, models_by_key, moment
from proxy.pool.pool import Pool
from proxy.relay.backend_request import Body

log = structlog.get_logger("ollama_proxy.relay")

PATIENCE: Final = 60.0
"""Seconds that a backend may take to make a model: it copies nothing, and writes a few hundred bytes."""
AGAIN: Final = 60.0
"""Seconds after which a model that could not be made is tried again."""
EDITED_HERE: Final = 8 * 1024
"""Bytes of a body up to which it is edited on the event loop."""


class _Made(NamedTuple):
    """What is known of one derived model at one backend.

    Attributes:
        there: whether it is there, and can be used.
        digest: that of the model it was made from, None where unknown.
        at: when it was made or found, or could not be made, seconds of the monotonic clock.
    """

    there: bool
    digest: object
    at: float


class ContextModels:
    """Makes derived models at backends, and names them in requests.

    Args:
        pool: is told of backends that were changed.
        most: derived models of which it is remembered whether they are there.
    """

    def __init__(self, pool: Pool, most: int = 4096) -> None:
        self._pool = pool
        self._made: Recent[tuple[Backend, str], _Made] = Recent(most)  # clients choose the names
        self._making: dict[tuple[Backend, str], asyncio.Task[None]] = {}

    async def name_for(self, exchange: Exchange, backend: Backend, num_ctx: int) -> str | None:
        """Return the name of the request's model with `num_ctx` at `backend`; None to send the request as it is.

        The first request for such a model waits until it is made, others for the same one wait with it. Where it cannot
        be made, that is logged, and requests get the context of the host for a minute.
        """
        model = None if exchange.model is None else underived(exchange.model)
        name = None if model is None else derived_name(model, num_ctx)
        if model is None or name is None or backend.has(model.key) is False:
            return None
        key = backend, name
        made = self._made.get(key)
        if made is None or not _holds(made, backend, model, name):
            task = self._making.get(key)
            if task is None:
                task = self._making[key] = asyncio.create_task(self._make(backend, model, name, num_ctx))
                task.add_done_callback(lambda _: self._making.pop(key, None))
            await asyncio.shield(task)
            made = self._made.get(key)
        return name if made is not None and made.there else None

    async def _make(self, backend: Backend, model: ModelName, name: str, num_ctx: int) -> None:
        """Make the model, unless the backend has it and nothing newer to make it from."""
        digest, why = None, None
        try:
            listed = models_by_key(await fetch_json(backend, b"/api/tags", timeout=PATIENCE))
            base, derived = listed.get(model.key), listed.get(_key(name))
            if base is None:
                return  # Ollama would get it from the registry; and names that do not exist are not worth remembering
            digest = base.get("digest")
            if derived is None or _is_older(derived, base):
                why = await _create(backend, name, model, num_ctx)
                self._pool.outcomes.touch(backend)
                if why is None:
                    log.info("context_model_made", backend=backend.name, model=name)
        except UpstreamError as error:
            let_go(error)
            why = error.message
        if why is not None:
            log.warning("context_model_failed", backend=backend.name, model=name, error=why)
        self._made.note((backend, name), _Made(why is None, digest, monotonic()))

    def __repr__(self) -> str:
        return f"<ContextModels {len(self._made)} known, {len(self._making)} being made>"


async def _create(backend: Backend, name: str, model: ModelName, num_ctx: int) -> str | None:
    """Make the model `name` of `model` at `backend`; return why it was not made, None where it was."""
    wanted = {"model": name, "from": model.full, "parameters": {"num_ctx": num_ctx}, "stream": False}
    answer = await fetch_json(backend, b"/api/create", timeout=PATIENCE, document=wanted)
    if answer.get("status") == "success":
        return None
    return str(answer.get("error") or "the backend did not say that it made it")


def _holds(made: _Made, backend: Backend, model: ModelName, name: str) -> bool:
    """Return whether what was found out is still so, by the latest list of the backend's models."""
    if not made.there:
        return monotonic() - made.at < AGAIN
    if backend.models is None or backend.asked_at < made.at:  # nothing newer is known
        return True
    base = backend.models.get(model.key)
    return _key(name) in backend.models and (base is None or base.get("digest") == made.digest)


def _key(name: str) -> str:
    parsed = parse_model(name)
    return name if parsed is None else parsed.key


def _is_older(derived: dict[str, Any], base: dict[str, Any]) -> bool:
    """Return whether a model was made before the one that it is made from was changed; both times are of one host."""
    return moment(derived, "modified_at") < moment(base, "modified_at")


async def renamed(body: Body, exchange: Exchange, name: str) -> Body:
    """Return a JSON body with the model `name` in place of its own; every other byte stays as it is."""
    member = model_member(exchange.route, exchange.document or {})
    content = body.content or b""
    if len(content) <= EDITED_HERE:
        content = json_edit.edit(content, {member: name})
    else:
        content = await off_loop(exchange.caller, json_edit.edit, content, {member: name})
    return Body(httpx.ByteStream(content), (b"content-length", b"%d" % len(content)), content)
