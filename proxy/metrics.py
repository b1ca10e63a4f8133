"""The service `Metrics`: counts requests, and tells all numbers in Prometheus' words.

Nothing is done while a request runs: what became of it is known when it is over. What is true only of the moment
(slots, queue, memory) is read when somebody asks, see ``proxy/gauges.py``.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from time import time
from typing import Final

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from proxy import meters
from proxy.errors import Refused
from proxy.exchange import Exchange, Usage
from proxy.gauges import Gauges, Reading, single
from proxy.generations import Generations
from proxy.meters import OTHER
from proxy.series import Names, counter, histogram
from proxy.services import Metrics

# They would be a series more for each one, which says when it was made.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types for it

_STATUS: Final = {number: f"{number}xx" for number in range(1, 6)}


class PrometheusMetrics(Metrics):
    """Counts in a registry of its own.

    Args:
        known: whether a backend has the model of this canonical key; a name that nobody has is not told apart.
    """

    def __init__(self, known: Callable[[str], bool]) -> None:
        self.registry = registry = CollectorRegistry()
        self.models = Names(meters.MODELS)
        self.tenants = Names(meters.TENANTS)
        self._gauges: list[Collector] = [Gauges(self._own())]
        self.lag = histogram(meters.LAG, registry).of()
        self._known = known
        self._short: dict[str, str] = {}
        self._requests = counter(meters.REQUESTS, registry)
        self._duration = histogram(meters.DURATION, registry)
        self._queue_wait = histogram(meters.QUEUE_WAIT, registry)
        self._overhead = histogram(meters.OVERHEAD, registry).of()
        self._received = counter(meters.RECEIVED, registry).of()
        self._sent = counter(meters.SENT, registry).of()
        self._chunks = counter(meters.CHUNKS, registry).of()
        self._tokens = counter(meters.TOKENS, registry)
        self._wasted_tokens = counter(meters.WASTED_TOKENS, registry)
        self._wasted_seconds = counter(meters.WASTED_SECONDS, registry)
        self._refused = counter(meters.REFUSED, registry)
        self._retries = counter(meters.RETRIES, registry)
        self._given_up = counter(meters.GIVEN_UP, registry)
        self._failures = counter(meters.FAILURES, registry)
        self._generations = Generations(registry)
        self._reloads = counter(meters.RELOADS, registry)
        self._intact = True
        self._loaded_at = time()
        ProcessCollector(registry=registry)

    def _own(self) -> Sequence[Reading]:
        return [
            (meters.FOLDED, single(lambda: self.folded)),
            (meters.LOADED_AT, single(lambda: self._loaded_at)),
            (meters.RELOAD_OK, single(lambda: self._intact)),
        ]

    def read(self, *gauges: Collector) -> None:
        """Ask `gauges` too whenever somebody asks for the numbers."""
        self._gauges += gauges

    def reloaded(self, *, loaded: bool) -> None:
        """Count that the policy file was read again, and put in force or refused."""
        self._reloads.of("loaded" if loaded else "refused").inc()
        self._intact = loaded
        if loaded:
            self._loaded_at = time()

    async def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """See `Metrics.exposition`. A thread writes it, as ten thousand series would hold up all streams for 60 ms."""
        encode, kind = choose_encoder(accept)
        return await asyncio.to_thread(encode, self.now()), kind

    def now(self) -> Collector:
        """Return all numbers, with the gauges as they are now; for any thread."""
        read = [metric for gauges in self._gauges for metric in gauges.collect()]
        return _Moment(self.registry, read)

    @property
    def folded(self) -> int:
        """How many times something was counted as `OTHER` because its metric had as many label sets as it may have."""
        counters = (self._requests, self._tokens, self._wasted_tokens, self._refused, self._failures)
        return sum(series.folded for series in counters) + self._queue_wait.folded + self._generations.folded

    # One request

    def count(self, exchange: Exchange) -> None:
        """See `Metrics.count`."""
        route, backend = exchange.route, exchange.backend or ""
        kind, path = (route.kind, route.path) if route is not None else ("none", OTHER)
        model = self._model(exchange)
        tenant = self.tenants.admit(exchange.tenant) if exchange.tenant else ""
        status = "none" if exchange.status is None else _STATUS.get(exchange.status // 100, OTHER)
        self._requests.of(kind, path, model, backend, tenant, exchange.outcome or "shutdown", status).inc()
        seconds = (exchange.ended_at or exchange.started_at) - exchange.started_at
        self._duration.of(kind).observe(seconds)
        self._received.inc(exchange.bytes_in)
        self._sent.inc(exchange.bytes_out)
        self._chunks.inc(exchange.chunks)
        if exchange.ticket is not None:
            self._queue_wait.of(tenant).observe(exchange.queued)
        if exchange.history:
            self._count_attempts(exchange)
        if isinstance(exchange.error, Refused):
            self._refused.of(exchange.error.by or "", exchange.error.code).inc()
        if exchange.usage is not None:
            self._count_tokens(exchange.usage, model, tenant, wasted=exchange.outcome == "client_gone")
        if kind == "inference":
            self._generations.count(exchange, model, backend, seconds)

    def _model(self, exchange: Exchange) -> str:
        """Return what the request's model counts as: its name where a backend has it, or answered for it."""
        model = exchange.model
        if model is None:
            return ""
        name = self._short.get(model.key)
        if name is not None:
            return name
        if not (self._known(model.key) or (exchange.committed and exchange.status == 200)):
            return OTHER
        name = self.models.admit(model.short)
        if name != OTHER:
            self._short[model.key] = name
        return name

    def _count_attempts(self, exchange: Exchange) -> None:
        attempts = exchange.history
        if len(attempts) == 1:
            before = attempts[0].began - exchange.started_at
            self._overhead.observe(max(0.0, before - exchange.reading - exchange.queued))
        else:
            for attempt in attempts[1:]:
                self._retries.of(attempt.backend).inc()
        for attempt in attempts:
            if attempt.error is not None and attempt.error != "cancelled":
                self._failures.of(attempt.backend, attempt.error).inc()
        if exchange.gave_up is not None:
            self._given_up.of(exchange.gave_up).inc()
        if exchange.outcome == "client_gone":
            last = attempts[-1]
            self._wasted_seconds.of(last.backend).inc(last.ended - last.began)

    def _count_tokens(self, usage: Usage, model: str, tenant: str, *, wasted: bool) -> None:
        if usage.tokens_in:
            self._tokens.of("in", usage.source, model, tenant).inc(usage.tokens_in)
        if usage.tokens_out:
            self._tokens.of("out", usage.source, model, tenant).inc(usage.tokens_out)
            if wasted:
                self._wasted_tokens.of(model, tenant).inc(usage.tokens_out)

    def __repr__(self) -> str:
        return f"<PrometheusMetrics of {len(self._short)} models, {self.folded} folded>"


class _Moment(Collector):
    """Counters, which threads may read, and gauges that were read already."""

    def __init__(self, registry: CollectorRegistry, read: Iterable[Metric]) -> None:
        self._registry = registry
        self._read = read

    def collect(self) -> Iterator[Metric]:
        return chain(self._registry.collect(), self._read)
