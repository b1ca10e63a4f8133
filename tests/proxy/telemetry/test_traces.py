"""Pipelines: one for each collector, which never hold anybody up."""

import asyncio

import pytest
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from proxy.kernel.traces import Collector as To
from proxy.telemetry import traces
from proxy.telemetry.traces import Pipelines
from tests.support.collector import collecting


def to(url: str, *, sample: float = 1.0, key: str = "canary") -> To:
    return To(url, (("x-key", key),), "my-proxy", sample)


async def test_spans_arrive_with_headers_and_resource() -> None:
    async with collecting() as collector:
        pipelines = Pipelines()
        tracer = pipelines.tracer(to(collector.url))
        assert pipelines.tracer(to(collector.url)) is tracer
        assert pipelines.tracer(to(collector.url, sample=0.5)) is not tracer
        tracer.start_span("hello", Context()).end()
        await pipelines.aclose()  # delivers what there is
        (span,) = collector.spans
        assert span.name == "hello"
        assert span.resource["service.name"] == "my-proxy"
        assert b"x-key: canary" in collector.heads[0].lower()


def test_prints_hold_no_header() -> None:
    pipelines = Pipelines()
    assert "canary" not in repr(to("http://127.0.0.1:1/v1/traces"))
    assert repr(pipelines) == "<Pipelines to nowhere>"


@pytest.mark.parametrize(
    ("sample", "flags", "recorded"),
    [(1.0, None, True), (0.0, None, False), (1.0, 1, True), (1.0, 0, False), (0.0, 1, False)],
)
async def test_who_is_recorded(sample: float, flags: int | None, recorded: bool) -> None:
    """A caller may leave its trace out. It cannot put it in."""
    parent = Context()
    if flags is not None:
        context = SpanContext(trace_id=1, span_id=1, is_remote=True, trace_flags=TraceFlags(flags))
        parent = set_span_in_context(NonRecordingSpan(context), parent)
    pipelines = Pipelines()
    span = pipelines.tracer(to("http://127.0.0.1:1/v1/traces", sample=sample)).start_span("x", parent)
    assert span.is_recording() == recorded
    await pipelines.aclose()


async def test_a_collector_that_is_not_there_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "TIMEOUT", 0.2)
    pipelines = Pipelines()
    tracer = pipelines.tracer(to("http://127.0.0.1:1/v1/traces"))
    for _ in range(5000):  # more than wait
        tracer.start_span("x", Context()).end()
    async with asyncio.timeout(10):
        await pipelines.aclose()


async def test_nothing_was_sent_nothing_to_end() -> None:
    await Pipelines().aclose()
