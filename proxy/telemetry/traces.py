"""The service `Traces`: pipelines of OpenTelemetry's SDK, which send spans by OTLP, each from a thread of its own."""

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from proxy import __version__
from proxy.kernel.traces import Collector, Traces

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

TIMEOUT: Final = 5.0
"""Seconds that one attempt to deliver may take, and the last one when the proxy stops."""
EVERY: Final = 2.0
"""Seconds between two deliveries, unless there are many spans."""


class Pipelines(Traces):
    """Keeps one pipeline for each collector, from its first span until the proxy stops.

    What a collector does not take in time is dropped: at most 2048 spans wait for it, and no request does.
    """

    def __init__(self) -> None:
        self._providers: dict[Collector, TracerProvider] = {}
        self._tracers: dict[Collector, Tracer] = {}

    def tracer(self, collector: Collector) -> "Tracer":
        """See `Traces.tracer`."""
        found = self._tracers.get(collector)
        return self._open(collector) if found is None else found

    def _open(self, collector: Collector) -> "Tracer":
        provider = self._providers[collector] = _provider(collector)
        tracer = self._tracers[collector] = provider.get_tracer("ollama_proxy", __version__)
        return tracer

    async def aclose(self) -> None:
        """Deliver the remaining spans within a few seconds, and end."""
        providers = list(self._providers.values())
        self._providers.clear()
        self._tracers.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * TIMEOUT):
                await asyncio.gather(*(_shut_down(provider) for provider in providers))

    def __repr__(self) -> str:
        return f"<Pipelines to {', '.join(collector.endpoint for collector in self._providers) or 'nowhere'}>"


async def _shut_down(provider: "TracerProvider") -> None:
    """Let `provider` deliver its spans, in a thread that the end of the process does not wait for."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        provider.shutdown()
        with suppress(RuntimeError):  # nobody waits any more, and the loop is closed
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="traces-shutdown", daemon=True).start()
    await done.wait()


def _provider(collector: Collector) -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    share = TraceIdRatioBased(collector.sample)
    provider = TracerProvider(
        # A caller's flag may leave a trace out. It cannot put more of them in than the share.
        sampler=ParentBased(root=share, remote_parent_sampled=share),
        resource=Resource.create({"service.name": collector.service, "service.version": __version__}),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(
        endpoint=collector.endpoint,
        headers=dict(collector.headers),
        timeout=TIMEOUT,
        compression=Compression.Gzip,
    )
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=EVERY * 1000))
    return provider
