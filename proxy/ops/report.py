"""The status document, made from the state of the proxy's parts."""

import os
from collections.abc import Mapping
from time import monotonic, time

from proxy import __version__
from proxy.kernel.log_lines import stamp
from proxy.kernel.model_names import parse as parse_model
from proxy.ops import document_types as doc
from proxy.ops.app_protocol import Engine
from proxy.ops.exchange_document import rate_of, request_of
from proxy.pool.backend import Backend
from proxy.pool.residency import Resident


def readiness(engine: Engine) -> doc.Readiness:
    """Return whether requests can be served now."""
    reason = _not_ready(engine)
    fleet = None if engine.fleet is None else engine.fleet.up
    return doc.Readiness(
        reason is None,
        reason or "a backend can be used",
        None if fleet is None else "shared" if fleet else "alone",
    )


def _not_ready(engine: Engine) -> str | None:
    now = monotonic()
    if not engine.serving:
        return "the proxy is starting or shutting down"
    if not engine.pool.first_round.over:
        return "not every backend has been asked yet"
    if not any(backend.health.usable(now) for backend in engine.pool.backends):
        return "no backend can be used"
    return None


async def report(engine: Engine, *, recent: list[doc.Request] | None) -> doc.Status:
    """Return the status. Where `recent` is None, as in ticks, it leaves out what rarely changes."""
    now = monotonic()
    running = [exchange for exchange in engine.frame.live if exchange.route is None or exchange.route.kind != "ops"]
    rates: dict[str | None, float] = {}
    for exchange in running:
        rates[exchange.backend] = rates.get(exchange.backend, 0.0) + (rate_of(exchange, now) or 0.0)
    queue, bodies = engine.scheduler.status(), engine.bodies
    return doc.Status(
        at=stamp(time()),
        version=__version__,
        uptime=round(now - engine.started_at, 1),
        ready=readiness(engine),
        config=_config(engine, now),
        backends=[
            _backend(backend, now, rates.get(backend.name, 0.0), whole=recent is not None)
            for backend in engine.pool.backends
        ],
        queue=doc.Queue(
            waiting=sum(queue.waiting.values()),
            oldest=round(queue.oldest, 1),
            tenants=[doc.Tenant(tenant, waiting) for tenant, waiting in sorted(queue.waiting.items(), key=_by_number)],
        ),
        requests=[request_of(exchange, engine.pool) for exchange in running],
        limits=await engine.board.in_use(),
        journal=await engine.stored_entries.view(),
        bodies=doc.Bodies(bodies.held, bodies.total, bodies.callers, bodies.largest),
        log_lines_dropped=engine.sink.dropped,
        recent=recent,
        workers=[_worker(engine, now, len(running))] if engine.peers.number else [],
    )


def _worker(engine: Engine, now: float, running: int) -> doc.Worker:
    return doc.Worker(
        number=engine.peers.number,
        pid=os.getpid(),
        uptime=round(now - engine.started_at, 1),
        requests=running,
        connections=0 if engine.server is None else engine.server.open_connections,
    )


def _by_number(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _config(engine: Engine, now: float) -> doc.Config:
    last = engine.reloader.last if engine.reloader is not None else None
    return doc.Config(
        file=engine.plan.loaded.file,
        generation=engine.frame.current.number,
        age=round(now - engine.loaded_at, 1),
        chain=str(engine.plan),
        problems=list(last.problems) if last is not None else [],
        restart=list(last.restart) if last is not None else [],
    )


def _backend(backend: Backend, now: float, rate: float, *, whole: bool) -> doc.Backend:
    health = backend.health
    return doc.Backend(
        name=backend.name,
        url=backend.shown,
        state=health.shown,
        reason=health.reason,
        since=round(now - health.since, 1) if health.since else 0.0,
        version=backend.version,
        seen=None if backend.seen_at is None else round(now - backend.seen_at, 1),
        slots=backend.slots,
        active=backend.active,
        permits=backend.permits,
        weight=backend.weight,
        tokens_per_second=round(rate, 1),
        first_byte=None if backend.first_byte is None else round(backend.first_byte, 3),
        last_error=backend.last_error,
        resident=_resident(backend),
        models=sorted(map(_short, backend.models)) if whole and backend.models is not None else None,
    )


def _resident(backend: Backend) -> list[doc.Model]:
    """Return the models in a backend's memory and those that it is loading."""
    expires = {key: entry.get("expires_at") for entry in backend.running if (key := _key(entry)) is not None}
    loading = {key: Resident() for key, requests in backend.loading.items() if requests}
    found = []
    for key, resident in {**loading, **backend.resident}.items():
        until = expires.get(key)
        model = doc.Model(
            name=_short(key),
            loading=key not in backend.resident,
            vram=resident.vram,
            context_length=resident.context_length,
            expires=until if isinstance(until, str) else None,
            active=backend.active_by_model[key],
            slots=backend.at_once(key),
        )
        found.append(model)
    return sorted(found, key=lambda model: model.name)


def _key(entry: Mapping[str, object]) -> str | None:
    text = entry.get("model") or entry.get("name")
    name = parse_model(text) if isinstance(text, str) else None
    return None if name is None else name.key


def _short(key: str) -> str:
    """Return the name of a model, from its canonical key, as Ollama lists it."""
    name = parse_model(key.replace("@cloud", ":cloud"))
    return key if name is None else name.short
