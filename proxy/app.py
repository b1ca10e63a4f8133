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
from proxy.plan import Plan, plan
from proxy.services import Backends, Clock, LogSink, RetryBudget, Store
from proxy.views import Views
from proxy.wiring import make_pool, make_routes, make_store, make_watch

PSEUDONYM: Final = f"ollama-proxy-{secrets.token_hex(4)}"
"""How this process calls itself in Via, so that it knows a request that comes back."""


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
        self.pool = make_pool(loaded, settings)
        self.watch = make_watch(settings, self.pool)
        self.services: Mapping[type, object] = {
            Clock: self.clock,
            Store: self.store,
            Backends: self.pool,
            RetryBudget: RetryBudget(self.clock),
            LogSink: sink,
        }
        endpoint = Endpoint(
            self.pool, Views(self.pool, oldest=self.watch.oldest), Dispatch(self.pool, pseudonym=PSEUDONYM)
        )
        chain = build(self.plan, endpoint, self.services)
        self.frame = Frame(
            Generation(1, chain.app, make_routes(settings), settings.trusted_proxies, chain.blame),
            bodies=BodyBudget(each=settings.server.body.each, total=settings.server.body.total),
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        try:
            await self.store.connect()
            self.watch.start()
            yield
        finally:
            await self.watch.stop()
            await self.pool.aclose()
            await self.store.aclose()


def check(loaded: Loaded) -> tuple[Plan, Settings]:
    """Return what a policy file comes to; raises Invalid with every mistake in it."""
    planned, problems = plan(loaded)
    if planned is None or loaded.settings is None:
        raise Invalid(problems)
    return planned, loaded.settings
