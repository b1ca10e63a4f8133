"""The spans of a request that is over."""

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from middleware.tracing.spans import begin, context_headers, finish
from proxy.kernel.attempts import Usage
from proxy.kernel.errors import ConnectFailed, Refused
from proxy.kernel.exchange import Exchange
from proxy.testing import make_exchange, suppose
from tests.support.metrics import attempt, finished

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def spans_of(exchange: Exchange, *, inherit: bool = True) -> dict[str, ReadableSpan]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    finish(tracer, begin(tracer, exchange, inherit=inherit), exchange)
    return {span.name: span for span in exporter.get_finished_spans()}


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


async def test_a_chat() -> None:
    spans = spans_of(
        await finished(
            queued=0.2, queue_position=3, queue_reason="slots", identity="alice", tenant="physics",
            usage=Usage(30, 21, done_reason="stop"), generation=2,
        )
    )  # fmt: skip
    request, queue, chat = spans["POST /api/chat"], spans["queue"], spans["chat llama3.2:latest"]
    assert (request.kind, queue.kind, chat.kind) == (SpanKind.SERVER, SpanKind.INTERNAL, SpanKind.CLIENT)
    assert seconds(request) == pytest.approx(2.5, abs=1e-3)
    assert seconds(queue) == pytest.approx(0.2, abs=1e-3)
    assert seconds(chat) == pytest.approx(2.25, abs=1e-3)
    assert queue.end_time == pytest.approx(chat.start_time, abs=1e6)
    assert request.context is not None
    for span in (queue, chat):
        assert span.parent is not None
        assert span.parent.span_id == request.context.span_id
    attributes = dict(chat.attributes or {})
    assert attributes.pop("gen_ai.response.time_to_first_chunk") == pytest.approx(0.25)
    assert attributes == {
        "ollama_proxy.backend": "b1",
        "ollama_proxy.cold": False,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "ollama",
        "gen_ai.request.model": "llama3.2:latest",
        "gen_ai.request.stream": True,
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 21,
        "gen_ai.response.finish_reasons": ("stop",),
    }
    assert [event.name for event in chat.events] == ["first_token"]
    assert chat.start_time is not None
    assert chat.events[0].timestamp - chat.start_time == pytest.approx(0.25e9, rel=1e-3)
    about = dict(request.attributes or {})
    assert about["http.route"] == "/api/chat"
    assert about["http.response.status_code"] == 200
    assert (about["user.name"], about["ollama_proxy.tenant"], about["ollama_proxy.outcome"]) == (
        "alice", "physics", "completed",
    )  # fmt: skip
    assert "error.type" not in about
    assert not request.status.description


async def test_an_attempt_that_failed_and_one_that_did_not() -> None:
    exchange = await finished(history=[attempt("b1", "status_500", ended=10.4), attempt("b2", began=10.4)])
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    finish(tracer, begin(tracer, exchange, inherit=True), exchange)
    first, second, request = exporter.get_finished_spans()
    assert dict(first.attributes or {})["error.type"] == "status_500"
    assert not first.status.is_ok
    assert not first.events
    assert "gen_ai.usage.output_tokens" not in (first.attributes or {})
    assert second.status.is_ok
    assert request.status.is_ok


async def test_a_failure_and_a_refusal() -> None:
    error = ConnectFailed("b1 refused the connection")
    failed = spans_of(await finished(outcome="upstream_failed", status=502, error=error, first_byte_at=None))
    assert failed["POST /api/chat"].status.description == "b1 refused the connection"
    assert dict(failed["POST /api/chat"].attributes or {})["error.type"] == "upstream_unreachable"
    refusal = Refused(403, "no")
    refusal.by = "access"
    refused = spans_of(await finished(outcome="refused", status=403, error=refusal, history=[], usage=None))
    assert list(refused) == ["POST /api/chat"]
    assert refused["POST /api/chat"].status.is_ok  # the caller's mistake, not ours
    assert dict(refused["POST /api/chat"].attributes or {})["ollama_proxy.error_plugin"] == "access"


async def test_a_client_that_left_is_no_error() -> None:
    spans = spans_of(await finished(outcome="client_gone", history=[attempt(error="cancelled")]))
    assert all(span.status.is_ok for span in spans.values())


@pytest.mark.parametrize(
    ("method", "path", "name", "method_attribute"),
    [
        ("GET", "/api/tags", "GET /api/tags", "GET"),
        ("GET", "/k/op_secret-of-somebody/nothing", "GET", "GET"),
        ("BREW", "/api/chat", "HTTP", "_OTHER"),
    ],
)
async def test_names_are_few_and_hold_no_secret(method: str, path: str, name: str, method_attribute: str) -> None:
    exchange = make_exchange(method, path)
    suppose(exchange, outcome="refused", ended_at=exchange.started_at)
    (span,) = spans_of(exchange).values()
    assert span.name == name
    assert dict(span.attributes or {})["http.request.method"] == method_attribute
    assert "secret" not in str(span.attributes)


async def test_a_callers_trace_is_continued_where_that_is_wanted() -> None:
    def exchange() -> Exchange:
        made = make_exchange("GET", "/", headers=[("traceparent", PARENT), ("tracestate", "acme=1")])
        suppose(made, outcome="completed", ended_at=made.started_at)
        return made

    (inherited,) = spans_of(exchange()).values()
    assert inherited.context is not None
    assert inherited.parent is not None
    assert f"{inherited.context.trace_id:032x}" == PARENT[3:35]
    assert f"{inherited.parent.span_id:016x}" == PARENT[36:52]
    (alone,) = spans_of(exchange(), inherit=False).values()
    assert alone.parent is None


@pytest.mark.parametrize("value", ["", "nonsense", PARENT + "-more", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "\xff"])
async def test_a_bad_traceparent_is_none(value: str) -> None:
    made = make_exchange("GET", "/")
    made.scope["headers"] = [(b"traceparent", value.encode("latin-1")), (b"tracestate", b"\xff=" * 100)]
    suppose(made, outcome="completed", ended_at=made.started_at)
    (span,) = spans_of(made).values()
    assert span.parent is None


def test_the_headers_that_go_on() -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    span = begin(tracer, make_exchange(headers=[("traceparent", PARENT), ("tracestate", "acme=1")]), inherit=True)
    headers: dict[bytes, bytes] = dict(context_headers(span))
    context = span.get_span_context()
    assert headers[b"traceparent"] == f"00-{PARENT[3:35]}-{context.span_id:016x}-01".encode()
    assert headers[b"tracestate"] == b"acme=1"


async def test_nothing_is_made_of_what_is_not_recorded() -> None:
    made: list[Any] = []

    class Deaf:
        def is_recording(self) -> bool:
            return False

        def end(self, end_time: int) -> None:
            made.append("end")

    finish(None, Deaf(), await finished())  # type: ignore[arg-type]  # the tracer is not asked
    assert made == ["end"]
