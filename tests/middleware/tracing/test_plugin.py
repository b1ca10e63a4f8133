"""The plugin `tracing`: options, headers in and out."""

import sys
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from middleware.tracing.plugin import Tracing
from proxy.kernel.asgi import Receive, Scope, Send, header, header_values
from proxy.kernel.exchange import Exchange
from proxy.kernel.traces import Collector, Traces
from proxy.kernel.units import Secret
from proxy.testing import call, make_exchange, ok
from tests.support.asgi import assert_not_wrapped

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Kept(Traces):
    def __init__(self, *, sampled: bool = True) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self._tracer = provider.get_tracer("test")
        self.asked: list[Collector] = []

    def tracer(self, collector: Collector) -> Any:
        self.asked.append(collector)
        return self._tracer

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.exporter.get_finished_spans()]


class Inner:
    """Keeps the headers that reached it."""

    headers: list[tuple[bytes, bytes]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers = scope["headers"]
        await ok(scope, receive, send)


def chat() -> Exchange:
    return make_exchange(headers=[("traceparent", PARENT), ("tracestate", "acme=1"), ("x-mine", "1")])


async def test_a_request_is_a_span_and_the_log_learns_its_trace() -> None:
    traces, exchange = Kept(), chat()
    await call(Tracing(ok, traces=traces), exchange)
    assert traces.names == ["POST /api/chat"]
    assert exchange.trace_id == PARENT[3:35]


async def test_the_backend_is_told_of_our_span_in_the_callers_trace() -> None:
    traces, inner = Kept(), Inner()
    await call(Tracing(inner, traces=traces), chat())
    (span,) = traces.exporter.get_finished_spans()
    assert span.context is not None
    assert header_values(inner.headers, b"traceparent") == [
        f"00-{PARENT[3:35]}-{span.context.span_id:016x}-01".encode()
    ]
    assert header(inner.headers, b"tracestate") == b"acme=1"
    assert header(inner.headers, b"x-mine") == b"1"


async def test_or_of_nothing() -> None:
    inner = Inner()
    await call(Tracing(inner, traces=Kept(), propagate=False), chat())
    assert inner.headers == [(b"x-mine", b"1")]


async def test_or_of_another_trace_where_the_callers_is_not_continued() -> None:
    traces, inner, exchange = Kept(), Inner(), chat()
    await call(Tracing(inner, traces=traces, inherit=False), exchange)
    assert exchange.trace_id not in (None, PARENT[3:35])
    assert (header(inner.headers, b"traceparent") or b"")[3:35].decode() == exchange.trace_id
    assert header(inner.headers, b"tracestate") is None


async def test_what_is_not_recorded_says_so_further_on() -> None:
    traces, inner, exchange = Kept(sampled=False), Inner(), chat()
    await call(Tracing(inner, traces=traces), exchange)
    assert traces.names == []
    assert exchange.trace_id is None
    assert (header(inner.headers, b"traceparent") or b"").endswith(b"-00")


async def test_receive_and_send_are_passed_on_as_they_came() -> None:
    await assert_not_wrapped(lambda inner: Tracing(inner, traces=Kept()))


async def test_options_reach_the_collector() -> None:
    traces = Kept()
    plugin = Tracing(
        ok,
        traces=traces,
        endpoint="https://c.example/v1/traces",
        headers={"x-key": Secret("s")},
        sample=0.1,
        service="p",
    )
    await call(plugin, make_exchange())
    assert traces.asked == [Collector("https://c.example/v1/traces", (("x-key", "s"),), "p", 0.1)]


@pytest.mark.parametrize(
    "endpoint", ["", "collector:4318", "ftp://x/", "http:///v1", "http://me:pw@c.example/v1/traces"]
)
def test_a_bad_endpoint_is_a_mistake_in_the_policy_file(endpoint: str) -> None:
    with pytest.raises(ValueError, match="the endpoint must") as refused:
        Tracing(ok, traces=Kept(), endpoint=endpoint)
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize(
    "missing",
    [
        "middleware.tracing.spans",
        "opentelemetry.sdk.trace.export",
        "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    ],
)
def test_without_the_extra_it_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing == "middleware.tracing.spans":
        monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
        monkeypatch.delitem(sys.modules, missing, raising=False)
        monkeypatch.delattr("middleware.tracing.spans", raising=False)
    else:
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ValueError, match=r"pip install 'ollama-proxy\[otel\]'"):
        Tracing(ok, traces=Kept())


async def test_other_scopes_pass() -> None:
    seen: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    await Tracing(inner, traces=Kept())({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # neither is used
    assert seen == ["lifespan"]
