"""The composition root: it makes the application from the settings, and alone knows every part."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from operator import attrgetter
from time import monotonic
from typing import Final

from config.load import Loaded
from config.problems import Invalid
from config.settings import Settings
from proxy.background.responses_api import ResponsesApi
from proxy.background.routes import ROUTES as RESPONSES
from proxy.batches.apis import batch_apis
from proxy.batches.keeper import Keeper
from proxy.batches.routes import ROUTES as BATCHES
from proxy.chain.browser_gate import PageGate
from proxy.chain.build import Chain, build
from proxy.chain.frame import Frame, Generation
from proxy.chain.plan import Plan
from proxy.chain.plan import plan as make_plan
from proxy.deferred.owners_api import OwnersApi
from proxy.deferred.run import Home
from proxy.deferred.runner import Runner
from proxy.deferred.stored_routes import StoredApp, routes_for
from proxy.kernel.backends import Backends
from proxy.kernel.background import Background
from proxy.kernel.clock import Clock
from proxy.kernel.journal import Journal
from proxy.kernel.keepsakes import Keepsakes
from proxy.kernel.known_hosts import KnownHosts
from proxy.kernel.log_sink import LogSink
from proxy.kernel.metrics import Metrics
from proxy.kernel.peers import Peers
from proxy.kernel.retry_budget import RetryBudget
from proxy.kernel.routes import RouteTable
from proxy.kernel.slot_scheduling import Scheduler, Slots
from proxy.kernel.store import Store, StoreUnavailable
from proxy.kernel.traces import Traces
from proxy.kernel.units import Mistake
from proxy.kernel.webhooks import Webhooks
from proxy.membership import Membership, first_generation, make_bodies
from proxy.ops.app import Ops
from proxy.ops.app_protocol import Loader
from proxy.ops.limits_in_use import Board
from proxy.ops.routes import HEALTH
from proxy.ops.routes import ROUTES as OPS
from proxy.ops.stored_entries import StoredEntries
from proxy.pool.fleet_side import FleetSide
from proxy.pool.pool import Pool
from proxy.pool.probes import Probes
from proxy.queue.scheduler import FairScheduler
from proxy.relay.dispatch import Dispatch
from proxy.relay.merged_lists import MergedLists
from proxy.relay.router import Router
from proxy.server.server import Server, serve
from proxy.services.alone import Alone
from proxy.services.fair_retry_budget import FairRetryBudget
from proxy.services.system_clock import SystemClock
from proxy.services.weak_keepsakes import WeakKeepsakes
from proxy.telemetry.gauges import (
    of_backends,
    of_fleet,
    of_journal,
    of_process,
    of_queue,
    of_refusals,
    of_requests,
    of_servers,
)
from proxy.telemetry.log_setup import configure
from proxy.telemetry.loop_lag import Lag
from proxy.telemetry.prometheus import PrometheusMetrics
from proxy.telemetry.traces import Pipelines
from proxy.webhooks.sender import SignedWebhooks
from proxy.websocket.app import WebSockets
from proxy.wiring import (
    body_bounds,
    make_backends,
    make_fleet,
    make_hosts,
    make_journal,
    make_routes,
    make_store,
    ops_options,
    pool_options,
    running_terms,
    server_options,
)

PSEUDONYM: Final = f"ollama-proxy-{secrets.token_hex(4)}"
"""The name of this process in the Via field, by which it recognises a request that comes back."""
NEEDS_RESTART: Final = ("listen", "tls", "store", "ops", "server.unix_mode", "workers")
"""The settings that change only with a restart."""


class App:
    """A running configuration.

    Args:
        loaded: a policy file, as `config.load` read it.
        sink: takes the log lines.
        membership: the place of this process among the workers; None where it serves alone.

    Attributes:
        fleet: shares slots and retries with other proxies; None where it has them for itself.
        server: the server of `frame`; None before it runs.
        ops_server: the server of the ops routes alone; None where the policy file sets no address for them.
        reloader: loads the policy file again; None where there is no file.
        not_started: why the store could not be opened; None where it could.

    Raises:
        Invalid: the policy file has mistakes; it holds all of them, those in the options of plugins included.
    """

    def __init__(self, loaded: Loaded, sink: LogSink, membership: Membership | None = None) -> None:
        self.plan, self.settings = check(loaded)
        settings = self.settings
        self.sink = sink
        self.started_at = self.loaded_at = monotonic()
        self.peers: Peers = Alone() if membership is None else membership.peers
        self._membership = membership
        self.server: Server | None = None
        self.ops_server: Server | None = None
        self._ops_listen = settings.ops.listen
        self._ops_options = None if self._ops_listen is None else ops_options(settings, self._ops_listen)
        self.reloader: Loader | None = None
        self.not_started: str | None = None
        self.clock = SystemClock()
        self.store = self.board = Board(make_store(loaded, settings, self.clock))
        self.journal = make_journal(loaded, settings, self.clock)
        self.webhooks = SignedWebhooks(self.journal, self.clock)
        self.pool = Pool(make_backends(loaded, settings), pool_options(settings))
        self.watch = Probes(self.pool, every=settings.pool.health.every, timeout=settings.pool.health.timeout)
        self.scheduler = FairScheduler(self.pool, self.clock)
        retries = FairRetryBudget(self.clock)
        self.fleet = make_fleet(settings, FleetSide(self.pool, self.watch), self.pool, self.scheduler, retries)
        self.metrics = PrometheusMetrics(self.pool.knows, self.peers)
        self.traces = Pipelines()
        responses = ResponsesApi(self.journal, self.webhooks)
        self.services: Mapping[type, object] = {
            Clock: self.clock,
            Keepsakes: WeakKeepsakes(),
            Store: self.store,
            Journal: self.journal,
            Webhooks: self.webhooks,
            Background: responses,
            Backends: self.pool,
            Slots: self.pool,
            Scheduler: self.scheduler,
            RetryBudget: retries,
            LogSink: sink,
            Metrics: self.metrics,
            Traces: self.traces,
        }
        self.stored_entries = StoredEntries(self.journal)
        self.ops = Ops(self)
        self.keeper = Keeper(self.journal, self.clock, self.webhooks.notify)
        self.stored = self._stored_app(responses)
        self.bodies = make_bodies(settings, membership)
        self.sockets = WebSockets(self.bodies)
        self._bound(settings)
        self.chain, main, ops = self._generations(first_generation(membership), self.plan, settings)
        self.frame = Frame(main, bodies=self.bodies, lifespan=self._lifespan, observer=self.ops.hub)
        self.sockets.serve_by(self.frame)
        self.ops_frame = Frame(ops, bodies=self.bodies)
        home = Home(self.journal, self.frame, self.clock, self.webhooks, self.keeper.ended)
        self.runner = Runner(home, self.pool, lambda: self.serving)
        self._keep(self.chain)
        self._read_gauges()

    def _read_gauges(self) -> None:
        """Let the metrics read what stands in the parts."""
        self.metrics.read(
            [
                *of_requests(self.frame, self.ops_frame),
                *of_queue(self.scheduler, self.metrics.tenants),
                *of_backends(self.pool, self.metrics.models),
                *of_servers(lambda: self._servers),
                *of_refusals(lambda: [*self._servers.values(), self.frame, self.ops_frame]),
                *of_journal(self.stored_entries),
                *of_fleet(lambda: self.fleet),
                *of_process(self.bodies, self.sink),
            ]
        )

    def reload(self, loaded: Loaded) -> tuple[str, ...]:
        """Put another policy file in force for the requests that come from now on.

        Running requests end under the file that they began with. Backends that did not change keep their connections
        and their state. Returns the settings that changed but need a restart. Raises Invalid; then nothing has changed.
        """
        plan, settings = check(loaded)
        self._keep_closed(loaded, plan, settings)
        backends = make_backends(loaded, settings, self.settings, self.pool.backends)
        chain, main, ops = self._generations(self.frame.current.number + 1, plan, settings)
        before, self.settings, self.plan = self.settings, settings, plan
        self.pool.replace(backends, pool_options(settings))
        self.watch.pace(every=settings.pool.health.every, timeout=settings.pool.health.timeout)
        self.watch.start()
        self._bound(settings)
        self.chain, self.loaded_at = chain, monotonic()
        self.frame.current, self.ops_frame.current = main, ops
        self._keep(chain)
        self._configure_log()
        return tuple(name for name in NEEDS_RESTART if attrgetter(name)(before) != attrgetter(name)(settings))

    def _stored_app(self, responses: ResponsesApi) -> StoredApp:
        """Return what answers callers who ask for what is kept for them."""
        apis = (OwnersApi(self.journal, self.webhooks), responses, *batch_apis(self.journal, self.clock, self.keeper))
        return StoredApp({route: handler for api in apis for route, handler in api.handlers.items()})

    def _keep(self, chain: Chain) -> None:
        """Run what is kept on the terms of a chain, from now on."""
        terms = running_terms(chain)
        self.runner.use(terms)
        self.keeper.use(terms is not None)

    def _bound(self, settings: Settings) -> None:
        """Set the bounds of request bodies and of new connections."""
        self.bodies.bound(**body_bounds(settings))
        if self.server is not None:
            self.server.renew_bounds(server_options(settings))
        if self.ops_server is not None and self._ops_listen is not None:
            self.ops_server.renew_bounds(ops_options(settings, self._ops_listen))

    @property
    def _servers(self) -> dict[str, Server]:
        named = {"main": self.server, "ops": self.ops_server}
        return {name: server for name, server in named.items() if server is not None}

    @property
    def serving(self) -> bool:
        """Return whether the proxy takes requests: True until the server is told to stop."""
        return self.server is None or self.server.serving

    def _keep_closed(self, loaded: Loaded, plan: Plan, settings: Settings) -> None:
        """Raise Invalid where the new file would let strangers use an address that is open until a restart."""
        exposed = [address for server in self._servers.values() for address in server.exposed]
        if exposed and plan.anonymous and not settings.allow_anonymous_network:
            mistake = Mistake(
                f"nothing in it asks who is calling, and others can reach {exposed[0]}, which listens until a restart",
                "add auth, restart, or set allow_anonymous_network: true",
            )
            raise Invalid([loaded.problem(("middleware",), mistake)])

    def _configure_log(self) -> None:
        configure(self.sink, format=self.settings.log.format, level=self.settings.log.level)

    def _build(self, plan: Plan, settings: Settings, hosts: KnownHosts) -> Chain:
        """Build the chain of a policy file; raises Invalid."""
        endpoint = Router(
            self.pool,
            MergedLists(self.pool, self.watch),
            Dispatch(self.pool, pool_options(settings).timeouts, pseudonym=PSEUDONYM, scheduler=self.scheduler),
            {"ops": self.ops, "stored": self.stored},
            self.sockets,
        )
        return build(plan, endpoint, {**self.services, KnownHosts: hosts})

    def _generations(self, number: int, plan: Plan, settings: Settings) -> tuple[Chain, Generation, Generation]:
        """Return the chain, the generation of the main listeners, and that of the ops listener; raises Invalid.

        The gate checks the Host field only where no plugin of the chain authenticates callers.
        """
        hosts = make_hosts(settings)
        chain = self._build(plan, settings, hosts)
        gate = PageGate(chain.cross_origin, hosts if plan.anonymous else None)
        uses = {link.plugin.use for link in plan.links}
        stored = (*routes_for(uses), *((*RESPONSES, *BATCHES) if "defer" in uses else ()))
        main = make_routes(settings, (*(OPS if self._ops_listen is None else HEALTH), *stored))
        return (
            chain,
            Generation(number, chain.app, main, settings.trusted_proxies, chain.blame, gate),
            Generation(number, chain.app, RouteTable(OPS, base=()), settings.trusted_proxies, chain.blame, gate),
        )

    async def _open_store(self) -> None:
        """Open the store and the journal; a file that another process has ends the start, and the command says so."""
        try:
            await self.store.connect()
            await self.journal.connect()
            await self.webhooks.resume()
        except StoreUnavailable as error:
            self.not_started = str(error)
            raise

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        self._configure_log()
        lag = Lag(self.metrics.lagged)
        try:
            async with AsyncExitStack() as stack:
                await self._open_store()
                if self.fleet is not None:
                    self.fleet.start()
                self.runner.start()
                self.keeper.start()
                self.watch.start()
                lag.start()
                if self._ops_options is not None:
                    seat = None if self._membership is None else self._membership.ops
                    self.ops_server = await stack.enter_async_context(serve(self.ops_frame, self._ops_options, seat))
                yield
        finally:
            lag.stop()
            await self.keeper.stop()
            await self.runner.stop(0.0 if self.server is None else self.server.seconds_left)
            await self.watch.stop()
            if self.fleet is not None:
                await self.fleet.aclose()
            await self.pool.aclose()
            await self.traces.aclose()
            await self.webhooks.aclose()
            await self.journal.aclose()
            await self.store.aclose()


def check(loaded: Loaded) -> tuple[Plan, Settings]:
    """Return the plan and the settings of a policy file; raises Invalid with every mistake in it."""
    planned, problems = make_plan(loaded)
    if planned is None or loaded.settings is None:
        raise Invalid(problems)
    make_store(loaded, loaded.settings, SystemClock())  # refuses a bad address, although a reload does not use it
    return planned, loaded.settings
