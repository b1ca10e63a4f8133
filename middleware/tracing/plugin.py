"""`tracing`: a trace of every request, by OpenTelemetry.

One span is begun when a request comes, as its id goes on to the backend; all others are made when it is over. Nothing
is done per chunk. What the spans hold is ``spans.py``; how they leave is the service `Traces`.
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
        endpoint: where traces go, with its path.
        headers: sent along, for example a key of the collector's.
        service: what the proxy is called in traces.
        sample: the share of traces that is recorded; `0%`: none.
        inherit: continue the trace that a caller names (W3C `traceparent`). A caller may leave its trace out, but not
            have more recorded than `sample` says.
        propagate: tell the backend of the trace, by the same header. Where it is off the caller's goes no further.
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
            # two of them here already, as the first request must not wait for them
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
        """Begin the request's span and have the rest made at its end."""
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
