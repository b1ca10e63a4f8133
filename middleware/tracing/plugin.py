"""`tracing`: an OpenTelemetry trace of every request.

The plugin begins one span when a request arrives, since the backend receives that span's id. It makes all other spans
at the end of the request, and does nothing per chunk. ``spans.py`` defines the spans; the service `Traces` sends them.
"""

from collections.abc import Awaitable, Mapping
from typing import Final
from urllib.parse import urlsplit

from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send, without
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import TracingPart
from proxy.kernel.traces import Collector, Traces
from proxy.kernel.units import Percent, Secret

_CONTEXT: Final = frozenset({b"traceparent", b"tracestate"})


class Tracing:
    """Sends a trace of every request to an OpenTelemetry collector, by OTLP over HTTP. Needs the extra `otel`.

    Args:
        endpoint: the collector's URL for traces, with its path.
        headers: headers of each request to the collector, for example a key.
        service: the name of the proxy in traces.
        sample: the share of traces that is recorded; `0%` records none.
        inherit: continue the trace that a caller names (W3C `traceparent`). A caller may switch recording of its trace
            off, but not raise the share above `sample`.
        propagate: send the trace to the backend in the same header. If off, the caller's header is not sent on either.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        traces: Traces,
        endpoint: str = "http://127.0.0.1:4318/v1/traces",
        headers: Mapping[str, Secret] = {},
        service: str = "ollama-proxy",
        sample: Percent = 1.0,
        inherit: bool = True,
        propagate: bool = True,
    ) -> None:
        try:
            # import both now, since the first request must not wait for them
            import opentelemetry.exporter.otlp.proto.http.trace_exporter
            import opentelemetry.sdk.trace.export  # noqa: F401

            from middleware.tracing import spans
        except ImportError as error:
            raise ValueError("tracing needs the extra `otel`: pip install 'ollama-proxy[otel]'") from error
        address = urlsplit(endpoint)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError("the endpoint must be a URL like http://127.0.0.1:4318/v1/traces")
        if address.username is not None or address.password is not None:
            raise ValueError("the endpoint must not hold credentials; use `headers`, whose values are never shown")
        self.app = app
        self._traces = traces
        self._collector = Collector(
            endpoint,
            tuple((name, value.get_secret_value()) for name, value in headers.items()),
            service,
            sample,
        )
        self._inherit = inherit
        self._propagate = propagate
        self._spans = spans

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Begin the request's span, and register the other spans to be made at its end."""
        if scope["type"] == "http":
            self._begin(Exchange.of(scope), scope)
        return self.app(scope, receive, send)

    def _begin(self, exchange: Exchange, scope: Scope) -> None:
        tracer = self._traces.tracer(self._collector)
        span = self._spans.begin(tracer, exchange, inherit=self._inherit)
        if span.is_recording():
            exchange.part(TracingPart).trace_id = f"{span.get_span_context().trace_id:032x}"
        exchange.on_finish(lambda exchange: self._spans.finish(tracer, span, exchange))
        headers = without(scope["headers"], _CONTEXT)
        scope["headers"] = [*headers, *self._spans.context_headers(span)] if self._propagate else headers
