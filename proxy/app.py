"""The composition root: settings in, a served application out. The one place that knows every part."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from config.load import Loaded
from config.problems import Invalid
from config.schema import Settings
from proxy.body import BodyBudget
from proxy.chain import build
from proxy.dispatch import Dispatch
from proxy.endpoint import Endpoint
from proxy.frame import Frame, Generation
from proxy.gauges import Gauges, of_backends, of_process, of_queue, of_requests
from proxy.lag import Lag
from proxy.metrics import PrometheusMetrics
from proxy.plan import Plan
from proxy.plan import plan as make_plan
from proxy.pool import Pool
from proxy.scheduler import FairScheduler
from proxy.services import Backends, Clock, LogSink, Metrics, RetryBudget, Scheduler, Slots, Store
from proxy.views import Views
from proxy.watch import Watch
from proxy.wiring import make_backends, make_routes, make_store, pool_options

PSEUDONYM: Final = f"ollama-proxy-{secrets.token_hex(4)}"
"""How this process calls itself in Via, so that it knows a request that comes back."""
NEEDS_RESTART: Final = ("listen", "tls", "store")
"""Settings that a running process keeps: they are what others know it by."""


class App:
    """A configuration at work.

    Args:
        loaded: a policy file, as `config.load` read it.
        sink: where log lines go.

    Raises:
        Invalid: with every mistake in it, those in the options of plugins included.
    """

    def __init__(self, loaded: Loaded, sink: LogSink) -> None:
        self.plan, self.settings = check(loaded)
        settings = self.settings
        self.clock = Clock()
        self.store = make_store(loaded, settings, self.clock)
        self.pool = Pool(make_backends(loaded, settings), pool_options(settings))
        self.watch = Watch(self.pool, every=settings.pool.health.every, timeout=settings.pool.health.timeout)
        self.scheduler = FairScheduler(self.pool, self.clock)
        self.metrics = PrometheusMetrics(self.pool.knows)
        self.services: Mapping[type, object] = {
            Clock: self.clock,
            Store: self.store,
            Backends: self.pool,
            Slots: self.pool,
            Scheduler: self.scheduler,
            RetryBudget: RetryBudget(self.clock),
            LogSink: sink,
            Metrics: self.metrics,
        }
        self.bodies = BodyBudget(each=settings.server.body.each, total=settings.server.body.total)
        self.frame = Frame(self._generation(1, self.plan, settings), bodies=self.bodies, lifespan=self._lifespan)
        self.metrics.read(
            Gauges(
                [
                    *of_requests(self.frame),
                    *of_queue(self.scheduler, self.metrics.tenants),
                    *of_backends(self.pool, self.metrics.models),
                    *of_process(self.bodies, sink),
                ]
            )
        )

    def reload(self, loaded: Loaded) -> tuple[str, ...]:
        """Put another policy file in force for the requests that come from now on.

        Requests that run end under the file they began with; backends that did not change keep their connections and
        their state. Returns the settings that changed but need a restart. Raises Invalid, and then nothing changed.
        """
        plan, settings = check(loaded)
        backends = make_backends(loaded, settings, self.settings, self.pool.backends)
        generation = self._generation(self.frame.current.number + 1, plan, settings)
        before, self.settings, self.plan = self.settings, settings, plan
        self.pool.replace(backends, pool_options(settings))
        self.watch.pace(every=settings.pool.health.every, timeout=settings.pool.health.timeout)
        self.watch.start()
        self.bodies.each, self.bodies.total = settings.server.body.each, settings.server.body.total
        self.frame.current = generation
        return tuple(name for name in NEEDS_RESTART if getattr(before, name) != getattr(settings, name))

    def _generation(self, number: int, plan: Plan, settings: Settings) -> Generation:
        """Build the chain of a policy file; raises Invalid."""
        endpoint = Endpoint(
            self.pool,
            Views(self.pool, oldest=self.watch.oldest),
            Dispatch(self.pool, pool_options(settings).timeouts, pseudonym=PSEUDONYM, scheduler=self.scheduler),
        )
        chain = build(plan, endpoint, self.services)
        return Generation(number, chain.app, make_routes(settings), settings.trusted_proxies, chain.blame)

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        lag = Lag(self.metrics.lag.observe)
        try:
            await self.store.connect()
            self.watch.start()
            lag.start()
            yield
        finally:
            lag.stop()
            await self.watch.stop()
            await self.pool.aclose()
            await self.store.aclose()


def check(loaded: Loaded) -> tuple[Plan, Settings]:
    """Return what a policy file comes to; raises Invalid with every mistake in it."""
    planned, problems = make_plan(loaded)
    if planned is None or loaded.settings is None:
        raise Invalid(problems)
    return planned, loaded.settings
