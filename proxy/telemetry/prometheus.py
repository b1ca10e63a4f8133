"""The service `Metrics`: counts requests, and writes all numbers for Prometheus.

Nothing is done while a request runs: what became of it is known when it is over. What is true only of the moment
(slots, queue, memory) is read when somebody asks, see ``proxy/telemetry/gauges.py``.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from time import time
from typing import Any, Final

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from proxy.kernel.attempts import Usage
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.metrics import Metrics
from proxy.kernel.peers import Peers
from proxy.telemetry import metric_table
from proxy.telemetry.across_workers import Document, document, merged
from proxy.telemetry.exposition import Moment, Reading
from proxy.telemetry.gauges import single
from proxy.telemetry.genai_metrics import Generations
from proxy.telemetry.metric_table import OTHER
from proxy.telemetry.series import Count, Names, Series, Spread, counter, histogram

_BEGAN: Final = attrgetter("began")
_STATUS: Final = {number: f"{number}xx" for number in range(1, 6)}


class PrometheusMetrics(Metrics):
    """Counts requests as they end, and reads gauges when metrics are scraped.

    Args:
        known: whether a backend has the model of this canonical key; a name that nobody has is not told apart.
        peers: the worker processes, whose numbers are exposed together; None for one process.

    Attributes:
        models: the models that are told apart.
        tenants: the tenants that are.
    """

    def __init__(self, known: Callable[[str], bool], peers: Peers | None = None) -> None:
        self._peers = peers
        self.models = Names(metric_table.MODELS)
        self.tenants = Names(metric_table.TENANTS)
        self._known = known
        self._short: dict[str, str] = {}
        self._requests = counter(metric_table.REQUESTS)
        self._duration = histogram(metric_table.DURATION)
        self._queue_wait = histogram(metric_table.QUEUE_WAIT)
        self._overhead = histogram(metric_table.OVERHEAD)
        self._received = counter(metric_table.RECEIVED)
        self._sent = counter(metric_table.SENT)
        self._chunks = counter(metric_table.CHUNKS)
        self._tokens = counter(metric_table.TOKENS)
        self._wasted_tokens = counter(metric_table.WASTED_TOKENS)
        self._wasted_seconds = counter(metric_table.WASTED_SECONDS)
        self._refused = counter(metric_table.REFUSED)
        self._not_let_in = counter(metric_table.NOT_LET_IN)
        self._retries = counter(metric_table.RETRIES)
        self._given_up = counter(metric_table.GIVEN_UP)
        self._failures = counter(metric_table.FAILURES)
        self._unterminated = counter(metric_table.UNTERMINATED)
        self._generations = Generations()
        self._lag = histogram(metric_table.LAG)
        self._reloads = counter(metric_table.RELOADS)
        self._series: list[Series[Count] | Series[Spread]] = [
            series for series in vars(self).values() if isinstance(series, Series)
        ]
        self._series += self._generations.series
        self._intact = True
        self._loaded_at = time()
        self._readings: list[Reading] = [(series.meter, series.read) for series in self._series]
        self._readings += [
            (metric_table.FOLDED, single(lambda: self.folded)),
            (metric_table.LOADED_AT, single(lambda: self._loaded_at)),
            (metric_table.RELOAD_OK, single(lambda: self._intact)),
            (metric_table.WORKERS, single(lambda: 1)),
            (metric_table.WORKERS_ENDED, single(lambda: 0)),  # the parent counts them
        ]
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        if peers is not None:
            peers.on("metrics", self._document)

    def read(self, readings: Sequence[Reading]) -> None:
        """Add readings that are read with every scrape."""
        self._readings += readings

    def reloaded(self, *, loaded: bool) -> None:
        """Count one reload of the policy file, in force or refused."""
        self._reloads.of("loaded" if loaded else "refused").add()
        self._intact = loaded
        if loaded:
            self._loaded_at = time()

    def lagged(self, seconds: float) -> None:
        """Count the lag of a timer."""
        self._lag.of().observe(seconds)

    async def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """See `Metrics.exposition`. A thread writes it, as ten thousand series would hold up all streams for 60 ms."""
        encode, kind = choose_encoder(accept)
        if self._peers is not None and self._peers.number:
            answers = await self._peers.ask("metrics")
            return await asyncio.to_thread(_written, encode, [answer.said for answer in answers if answer.said]), kind
        return await asyncio.to_thread(encode, self.now()), kind

    async def _document(self, about: Mapping[str, Any]) -> dict[str, list[Any]]:
        return document(self._readings, self._process)

    def now(self) -> Collector:
        """Return all numbers as they are now."""
        return _Both(Moment(self._readings), self._process)

    @property
    def folded(self) -> int:
        """Return how often a metric counted as `OTHER` because it had all the label sets that it may have."""
        return sum(series.folded for series in self._series)

    # One request

    def count(self, exchange: Exchange) -> None:
        """See `Metrics.count`."""
        route, backend = exchange.route, exchange.backend or ""
        kind, path = (route.kind, route.path) if route is not None else ("none", OTHER)
        model = self._model(exchange)
        tenant = self.tenants.admit(exchange.tenant) if exchange.tenant else ""
        status = "none" if exchange.status is None else _STATUS.get(exchange.status // 100, OTHER)
        self._requests.of(kind, path, model, backend, tenant, exchange.outcome or "shutdown", status).add()
        seconds = (exchange.ended_at or exchange.started_at) - exchange.started_at
        self._duration.of(kind).observe(seconds)
        self._received.of().add(exchange.bytes_in)
        self._sent.of().add(exchange.bytes_out)
        self._chunks.of().add(exchange.chunks)
        if exchange.ticket is not None:
            self._queue_wait.of(tenant).observe(exchange.queued)
        if exchange.history:
            self._count_attempts(exchange)
        if isinstance(exchange.error, Refused):
            self._refused.of(exchange.error.by or "", exchange.error.code).add()
        if exchange.terminated is False and exchange.outcome == "completed":
            self._unterminated.of(model, backend).add()
        if exchange.usage is not None:
            self._count_tokens(exchange.usage, model, tenant, wasted=exchange.outcome == "client_gone")
        if kind == "inference":
            self._generations.count(exchange, model, backend, seconds)

    def not_let_in(self, credential: str, reason: str) -> None:
        """See `Metrics.not_let_in`."""
        self._not_let_in.of(credential, reason).add()

    def _model(self, exchange: Exchange) -> str:
        """Return the label of the request's model: its name where a backend has it or answered for it."""
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
        attempts = sorted(exchange.history, key=_BEGAN)
        if len(attempts) == 1:
            before = attempts[0].began - exchange.started_at
            self._overhead.of().observe(max(0.0, before - exchange.reading - exchange.queued))
        else:
            for attempt in attempts[1:]:
                self._retries.of(attempt.backend).add()
        for attempt in attempts:
            if attempt.error is not None and attempt.error != "cancelled":
                self._failures.of(attempt.backend, attempt.error).add()
        if exchange.gave_up is not None:
            self._given_up.of(exchange.gave_up).add()
        if exchange.outcome == "client_gone":
            for attempt in attempts:
                if attempt.error == "cancelled":
                    self._wasted_seconds.of(attempt.backend).add(attempt.ended - attempt.began)

    def _count_tokens(self, usage: Usage, model: str, tenant: str, *, wasted: bool) -> None:
        if usage.tokens_in:
            self._tokens.of("in", usage.source, model, tenant).add(usage.tokens_in)
        if usage.tokens_out:
            self._tokens.of("out", usage.source, model, tenant).add(usage.tokens_out)
            if wasted:
                self._wasted_tokens.of(model, tenant).add(usage.tokens_out)

    def __repr__(self) -> str:
        return f"<PrometheusMetrics of {len(self._short)} models, {self.folded} folded>"


def _written(encode: Callable[[Collector], bytes], documents: Sequence[Document]) -> bytes:
    """Return the numbers of several processes, written for Prometheus; it runs in a thread."""
    return encode(Moment((meter, points.copy) for meter, points in merged(documents)))


class _Both(Collector):
    """Collects our metrics, and prometheus-client's of the process."""

    def __init__(self, ours: Moment, process: CollectorRegistry) -> None:
        self._ours = ours
        self._process = process

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        return chain(self._ours.collect(), self._process.collect())
