"""Gauges, read when metrics are scraped, so that no request pays for them."""

import asyncio
import platform
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Final, Protocol, get_args
from urllib.parse import unquote

from proxy import __version__
from proxy.chain.frame import Frame
from proxy.kernel.body_budget import BodyBudget
from proxy.kernel.journal import State as EntryState
from proxy.kernel.log_sink import LogSink
from proxy.kernel.model_names import parse as parse_model
from proxy.kernel.shared_line import SharedLine
from proxy.pool.backend import Backend
from proxy.pool.health import State
from proxy.pool.pool import Pool
from proxy.queue.scheduler import FairScheduler
from proxy.server.server import Server
from proxy.telemetry import metric_table
from proxy.telemetry.exposition import Point, Reading
from proxy.telemetry.metric_table import OTHER
from proxy.telemetry.series import Names

_STATES: Final = get_args(State)


class Refusing(Protocol):
    """A part that refuses requests before any plugin sees them."""

    @property
    def refusals(self) -> Mapping[str, int]:
        """Return the number of refusals by error code."""


class Counted(Protocol):
    """A part that has counted the deferred requests."""

    @property
    def counted(self) -> Mapping[EntryState, int]:
        """Return their number by state."""


def single(read: Callable[[], float]) -> Callable[[], Iterable[Point]]:
    """Return a reading of a number without labels."""
    return lambda: [((), read())]


def of_requests(*frames: Frame) -> Sequence[Reading]:
    """Read the running requests, and the configuration in force; all frames have the same."""

    def in_flight() -> Iterable[Point]:
        routes = [exchange.route for frame in frames for exchange in frame.live]
        kinds = Counter(route.kind if route is not None else "none" for route in routes)
        return [((kind,), count) for kind, count in kinds.items()]

    return [(metric_table.IN_FLIGHT, in_flight), (metric_table.GENERATION, single(lambda: frames[0].current.number))]


def of_queue(scheduler: FairScheduler, tenants: Names) -> Sequence[Reading]:
    """Read the waiting requests, and how waiting ended."""

    def waiting() -> Iterable[Point]:
        found: defaultdict[str, int] = defaultdict(int)
        for key, count in scheduler.status().waiting.items():
            found[tenants.admit(tenant_of(key))] += count
        return [((tenant,), count) for tenant, count in found.items()]

    def admitted() -> Iterable[Point]:
        return [(("at_once",), scheduler.counts.at_once), (("waited",), scheduler.counts.waited)]

    def dropped() -> Iterable[Point]:
        return [((reason,), count) for reason, count in scheduler.counts.dropped.items()]

    return [
        (metric_table.QUEUE_WAITING, waiting),
        (metric_table.QUEUE_OLDEST, single(lambda: scheduler.status().oldest)),
        (metric_table.QUEUE_ADMITTED, admitted),
        (metric_table.QUEUE_DROPPED, dropped),
    ]


def tenant_of(key: str) -> str:
    """Return the tenant of a key of the queue; "" for callers without a tenant."""
    name = key.removeprefix("tenant=")
    return "" if name.startswith("@") else unquote(name)


def of_backends(pool: Pool, models: Names) -> Sequence[Reading]:
    """Read the state of every backend."""

    def each(read: Callable[[Backend], float | None]) -> Callable[[], Iterable[Point]]:
        return lambda: [((backend.name,), value) for backend in pool.backends if (value := read(backend)) is not None]

    def info() -> Iterable[Point]:
        return [((backend.name, (backend.version or "")[:32]), 1) for backend in pool.backends]

    def state() -> Iterable[Point]:
        return [
            ((backend.name, state), backend.health.shown == state) for backend in pool.backends for state in _STATES
        ]

    def resident() -> Iterable[Point]:
        return _by_model(pool, models, lambda backend, key: 1)

    def vram() -> Iterable[Point]:
        return _by_model(pool, models, lambda backend, key: backend.resident[key].vram)

    def slots() -> Iterable[Point]:
        return _by_model(pool, models, Backend.at_once)

    return [
        (metric_table.BACKEND_INFO, info),
        (metric_table.BACKEND_STATE, state),
        (metric_table.BACKEND_SEEN, each(lambda backend: _age(backend.seen_at))),
        (metric_table.BACKEND_SLOTS, each(lambda backend: backend.slots)),
        (metric_table.MODEL_SLOTS, slots),
        (metric_table.BACKEND_PERMITS, each(lambda backend: backend.permits)),
        (metric_table.BACKEND_ACTIVE, each(lambda backend: backend.active)),
        (metric_table.BACKEND_EJECTIONS, each(lambda backend: backend.health.ejections)),
        (metric_table.BACKEND_MODELS, each(lambda backend: None if backend.models is None else len(backend.models))),
        (metric_table.LOADING, each(lambda backend: sum(map(bool, backend.loading.values())))),
        (metric_table.RESIDENT, resident),
        (metric_table.VRAM, vram),
    ]


def _by_model(pool: Pool, models: Names, read: Callable[[Backend, str], float | None]) -> Iterable[Point]:
    """Return, for each backend and model in its memory, what `read` says of it; summed for those not told apart."""
    found: defaultdict[tuple[str, str], float] = defaultdict(float)
    for backend in pool.backends:
        for key in backend.resident:
            value = read(backend, key)
            if value is not None:
                name = parse_model(key.removesuffix("@cloud"))
                shown = models.admit(name.short) if name is not None else OTHER
                found[backend.name, shown] += value
    return found.items()


def _age(then: float | None) -> float | None:
    return None if then is None else monotonic() - then


def of_refusals(refusing: Callable[[], Iterable[Refusing]]) -> Sequence[Reading]:
    """Read the refusals of servers and frames that come before any plugin."""
    return [(metric_table.HTTP_REFUSED, lambda: _summed(one.refusals for one in refusing()))]


def _summed(counts: Iterable[Mapping[str, int]]) -> Iterable[Point]:
    found: Counter[str] = Counter()
    for count in counts:
        found.update(count)
    return [((key,), count) for key, count in found.items()]


def of_servers(servers: Callable[[], Mapping[str, Server]]) -> Sequence[Reading]:
    """Read the connections of the running servers, and those turned away; `servers` names the servers."""

    def each(read: Callable[[Server], float]) -> Callable[[], Iterable[Point]]:
        return lambda: [((name,), read(server)) for name, server in servers().items()]

    return [
        (metric_table.CONNECTIONS_REFUSED, lambda: _summed(server.turned_away for server in servers().values())),
        (metric_table.CONNECTIONS, each(lambda server: server.open_connections)),
        (metric_table.CONNECTIONS_LIMIT, each(lambda server: server.bounds.total)),
    ]


def of_journal(counted: Counted) -> Sequence[Reading]:
    """Read the deferred requests by state; `counted` holds their numbers."""
    return [(metric_table.DEFERRED, lambda: [((state,), number) for state, number in counted.counted.items()])]


def of_fleet(fleet: Callable[[], SharedLine | None]) -> Sequence[Reading]:
    """Read whether slots are shared, and by how many proxies; nothing where they are not."""

    def one(read: Callable[[SharedLine], float]) -> Callable[[], Iterable[Point]]:
        return lambda: [] if (line := fleet()) is None else [((), read(line))]

    return [
        (metric_table.FLEET_UP, one(lambda line: line.up)),
        (metric_table.FLEET_PROXIES, one(lambda line: line.proxies)),
    ]


def of_process(bodies: BodyBudget, sink: LogSink) -> Sequence[Reading]:
    """Read the bytes of bodies that this process holds, and the log lines it lost."""
    about = (__version__, platform.python_version())
    return [
        (metric_table.BODY_MEMORY, single(lambda: bodies.held)),
        (metric_table.BODY_MEMORY_LIMIT, single(lambda: bodies.total)),
        (metric_table.TASKS, single(lambda: len(asyncio.all_tasks()))),
        (metric_table.BODY_MEMORY_LARGEST, single(lambda: bodies.largest)),
        (metric_table.BODIES_REFUSED, lambda: [((code,), count) for code, count in bodies.refused.items()]),
        (metric_table.LOG_DROPPED, single(lambda: sink.dropped)),
        (metric_table.BUILD, lambda: [(about, 1)]),
    ]
