"""Make the parts of the application from the settings: a pure mapping, one function for each part."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from config.addresses import Address
from config.backends import Backend as BackendSettings
from config.load import Loaded
from config.problems import Invalid, Problem
from config.settings import Settings
from config.store import is_shared
from proxy.chain.build import Chain
from proxy.journal.open import open_journal
from proxy.kernel.body_budget import BodyBounds
from proxy.kernel.clock import Clock
from proxy.kernel.journal import Journal
from proxy.kernel.known_hosts import KnownHosts
from proxy.kernel.model_names import parse as parse_model
from proxy.kernel.ollama_routes import OLLAMA
from proxy.kernel.route import Route
from proxy.kernel.routes import RouteTable, socket_routes
from proxy.kernel.running_terms import RunningTerms, joined
from proxy.kernel.store import Store
from proxy.kernel.units import Mistake
from proxy.kernel.usable_cpus import usable_cpus
from proxy.kernel.websocket import SocketOptions
from proxy.pool.backend import Backend, make_backend
from proxy.pool.fleet_side import FleetSide
from proxy.pool.health import Rules
from proxy.pool.pool import Pool, PoolOptions
from proxy.queue.scheduler import FairScheduler
from proxy.server import open_files
from proxy.server.listeners import TlsOptions, certificate_names
from proxy.server.listening import ServerOptions
from proxy.services.fair_retry_budget import FairRetryBudget
from proxy.stores.open import open_store
from proxy.upstream.connector import tls_context
from proxy.upstream.timeouts import Timeouts

if TYPE_CHECKING:  # it needs the redis package
    from proxy.fleet.fleet import Fleet


def make_routes(settings: Settings, ops: Iterable[Route] = ()) -> RouteTable:
    """Return the table of routes: the `ops` routes, those of the settings, those that open WebSockets, and Ollama's."""
    declared = [extra.route for extra in settings.routes]
    sockets = socket_routes((*declared, *OLLAMA)) if settings.server.websocket.enabled else ()
    return RouteTable((*ops, *declared, *sockets))


def running_terms(chain: Chain) -> RunningTerms | None:
    """Return the terms on which entries of the journal run; None where no plugin of the chain puts any in."""
    terms = (getattr(plugin, "running", None) for _, plugin in chain.parts)
    return joined(found for found in terms if isinstance(found, RunningTerms))


def make_store(loaded: Loaded, settings: Settings, clock: Clock) -> Store:
    """Return the store that the settings name, not yet connected; raises Invalid."""
    try:
        return open_store(settings.store.get_secret_value(), clock)
    except ValueError as error:
        raise Invalid([loaded.problem(("store",), Mistake(str(error)))]) from error


def make_journal(loaded: Loaded, settings: Settings, clock: Clock) -> Journal:
    """Return the journal that belongs to the store of the settings, not yet connected; raises Invalid."""
    try:
        return open_journal(settings.store.get_secret_value(), clock)
    except ValueError as error:
        raise Invalid([loaded.problem(("store",), Mistake(str(error)))]) from error


def make_fleet(
    settings: Settings, shared: FleetSide, pool: Pool, scheduler: FairScheduler, retries: FairRetryBudget
) -> "Fleet | None":
    """Return what shares slots and retries with other proxies, not yet started; None where the store is no Redis."""
    url = settings.store.get_secret_value()
    if not is_shared(url):
        return None
    from proxy.fleet.fleet import Fleet

    fleet = Fleet(url, shared, scheduler, retries)
    scheduler.line, pool.ask_fleet = fleet, fleet.ask
    pool.on_free(fleet.freed)
    return fleet


def make_backends(
    loaded: Loaded, settings: Settings, before: Settings | None = None, running: Sequence[Backend] = ()
) -> list[Backend]:
    """Return the backends with their transports, not yet connected; raises Invalid for TLS files that cannot be used.

    Where the settings `before` are equal for one of the `running` backends, that backend is kept, with its connections
    and its state. A backend with the same name, URL and TLS settings but other options keeps the transport; by the
    transport `Pool.replace` recognises the same host.
    """
    kept: dict[str, tuple[BackendSettings, Backend]] = {}
    if before is not None:
        kept = {entry.name: (entry, backend) for entry, backend in zip(before.backends, running, strict=True)}
    backends: list[Backend] = []
    problems: list[Problem] = []
    for index, entry in enumerate(settings.backends):
        known, backend = kept.get(entry.name, (None, None))
        if backend is not None and known == entry:
            backends.append(backend)
            continue
        same = known is not None and (known.url, known.tls) == (entry.url, entry.tls)
        try:
            backends.append(_backend(settings, entry, backend.transport if backend is not None and same else None))
        except ValueError as error:
            problems.append(loaded.problem(("backends", index, "tls"), Mistake(str(error))))
    if problems:
        raise Invalid(problems)
    return backends


def workers_of(settings: Settings) -> int:
    """Return the number of processes that are to serve."""
    return usable_cpus() if settings.workers == "auto" else settings.workers


def server_options(settings: Settings) -> ServerOptions:
    """Return the options of the main server."""
    server, tls = settings.server, settings.tls
    return ServerOptions(
        listen=[str(address) for address in settings.listen],
        tls=TlsOptions(cert=tls.cert, key=tls.key, client_ca=tls.client_ca) if tls else None,
        total=server.connections.total,
        per_address=server.connections.per_address,
        handshakes=server.connections.handshakes,
        trusted=settings.trusted_proxies,
        head_timeout=server.head.deadline,
        head_bytes=server.head.size,
        head_fields=server.head.fields,
        body_timeout=server.body.timeout,
        keep_alive=server.keep_alive,
        write_timeout=server.write,
        websocket=_socket_options(settings) if server.websocket.enabled else None,
        shutdown_timeout=server.shutdown,
        unix_mode=server.unix_mode,
    )


def _socket_options(settings: Settings) -> SocketOptions:
    socket = settings.server.websocket
    return SocketOptions(
        ping=socket.ping,
        pong=socket.pong,
        idle=socket.idle,
        total=socket.total,
        message=settings.server.body.each,
        requests=socket.requests,
        waiting=socket.waiting,
        memory=socket.memory,
    )


def ops_options(settings: Settings, listen: Address) -> ServerOptions:
    """Return the options of a server for the ops routes alone, with connections that other callers cannot use up."""
    room = open_files.for_ops(open_files.limit())
    return replace(
        server_options(settings), listen=[str(listen)], total=room, per_address=None, handshakes=None, websocket=None
    )


def body_bounds(settings: Settings) -> BodyBounds:
    """Return the bounds of request bodies."""
    body = settings.server.body
    return BodyBounds(each=body.each, total=body.total, share=body.share, patience=body.timeout, rate=body.rate)


def make_hosts(settings: Settings) -> KnownHosts:
    """Return the names of the proxy: those of the settings and of its own certificate."""
    shown = certificate_names(settings.tls.cert) if settings.tls else ()
    return KnownHosts((*settings.server.hosts, *shown))


def pool_options(settings: Settings) -> PoolOptions:
    """Return the options of the pool."""
    pool, timeouts = settings.pool, settings.pool.timeouts
    return PoolOptions(
        timeouts=Timeouts(
            connect=timeouts.connect,
            load=timeouts.load or timeouts.first_byte,
            first_byte=timeouts.first_byte,
            idle=timeouts.idle,
            write=timeouts.write,
            total=timeouts.total,
            tools=timeouts.tools or max(timeouts.idle, timeouts.first_byte),
            manage=timeouts.manage,
        ),
        rules=_rules(settings),
        prefer=pool.prefer,
        spread_after=pool.spread_after,
        grace=pool.grace,
        grace_at_most=pool.grace_at_most,
        eject_share=pool.eject.at_most,
    )


def _rules(settings: Settings) -> Rules:
    health, eject = settings.pool.health, settings.pool.eject
    return Rules(
        down_after=health.down_after,
        up_after=health.up_after,
        eject_after=eject.after,
        eject_for=eject.for_,
        eject_longest=eject.longest,
        ramp=eject.ramp,
    )


def _backend(settings: Settings, entry: BackendSettings, transport: httpx.AsyncBaseTransport | None) -> Backend:
    """Make a backend; with `transport`, it keeps the connections of the same host."""
    tls = entry.tls if transport is None else None
    named = {parse_model(name): bound for name, bound in entry.model_slots.items()}
    return make_backend(
        entry.name,
        entry.url.origin,
        uds=entry.url.uds,
        shown=entry.url.shown,
        transport=transport,
        tls=tls_context(ca=_text(tls.ca), cert=_text(tls.cert), key=_text(tls.key), verify=tls.verify) if tls else None,
        server_name=tls.server_name if tls else None,
        headers=[
            (name.lower().encode("ascii"), value.get_secret_value().encode("ascii"))
            for name, value in entry.headers.items()
        ],
        weight=entry.weight,
        slots=entry.slots,
        slots_per_model=None if entry.slots_per_model == "auto" else entry.slots_per_model,
        model_slots={model.key: bound for model, bound in named.items() if model is not None},
        rules=_rules(settings),
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
