"""Traces of whole requests, as a collector gets them."""

import asyncio
from typing import Any

import pytest

from proxy.simulator import Ollama
from tests.support.collector import collecting
from tests.support.proxy import running
from tests.support.wire import Client, ask, request

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.telemetry.traces.EVERY", 0.02)


def chain(url: str, **options: Any) -> list[object]:
    return [
        "logging",
        {"tracing": {"endpoint": url, **options}},
        {"queue": {"wait": "10s"}},
        {"retry": {"attempts": 2}},
    ]


async def test_a_request_that_was_retried() -> None:
    async with (
        collecting() as collector,
        Ollama() as one,
        Ollama() as two,
        running(one.url, two.url, middleware=chain(collector.url)) as proxy,
    ):
        for host in (one, two):
            host.fault("status", status=503, route="/api/chat")
        one.fault("status", status=503, route="/api/chat")
        reply = await ask(
            proxy.address, "POST", "/api/chat", CHAT, headers={"traceparent": PARENT, "tracestate": "a=1"}
        )
        line = await proxy.log.request()
        await collector.wait_for(lambda collector: len(collector.spans) == 3)
        request = next(span for span in collector.spans if span.kind == "server")
        attempts = [span for span in collector.spans if span.kind == "client"]
        assert reply.status == 503
        assert (request.name, request.trace_id, request.parent_id) == ("POST /api/chat", PARENT[3:35], PARENT[36:52])
        assert line["trace_id"] == PARENT[3:35]
        assert request.error
        assert {span.parent_id for span in attempts} == {request.span_id}
        assert {span.attributes["ollama_proxy.backend"] for span in attempts} == {"b1", "b2"}
        assert {span.attributes["error.type"] for span in attempts} == {"status_503"}
        assert all(request.began <= span.began <= span.ended <= request.ended for span in attempts)
        # The backend is told of our span, in the caller's trace.
        told = {header for host in (one, two) for header in headers_of(host, b"traceparent")}
        assert told == {f"00-{request.trace_id}-{request.span_id}-01"}


def headers_of(host: Ollama, name: bytes) -> list[str]:
    return [value.decode() for record in host.requests for key, value in record.headers if key.lower() == name]


async def test_a_request_that_waited_and_was_streamed() -> None:
    async with (
        collecting() as collector,
        Ollama() as one,
        running({"name": "b1", "url": one.url, "slots": 1}, middleware=chain(collector.url)) as proxy,
    ):
        stall = one.fault("stall", route="/api/chat", after=2)
        first = await Client.connect(proxy.address)
        await first.send(request("POST", "/api/chat", CHAT))
        await first.read_head()
        second = asyncio.create_task(ask(proxy.address, "POST", "/api/chat", CHAT))
        async with asyncio.timeout(5):
            while not proxy.app.scheduler.status().waiting:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.005)
        stall.release()
        await second
        await first.close()
        await collector.wait_for(lambda collector: sum(span.name == "queue" for span in collector.spans) == 1)
        queue = next(span for span in collector.spans if span.name == "queue")
        await collector.wait_for(lambda collector: any(span.span_id == queue.parent_id for span in collector.spans))
        chat = next(span for span in collector.spans if span.kind == "client" and span.parent_id == queue.parent_id)
        assert queue.ended <= chat.began + 1_000_000
        assert queue.attributes["ollama_proxy.queue.position"] == 1
        assert chat.name == "chat llama3.2:latest"
        assert chat.began <= chat.events["first_token"] <= chat.ended
        assert chat.attributes["gen_ai.usage.output_tokens"] > 0
        assert chat.attributes["gen_ai.request.stream"] is True
        assert chat.resource["service.name"] == "ollama-proxy"


async def test_what_was_recorded_last_arrives_before_the_proxy_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.telemetry.traces.EVERY", 3600.0)
    async with collecting() as collector, Ollama() as one:
        async with running(one.url, middleware=chain(collector.url)) as proxy:
            await ask(proxy.address, "GET", "/api/tags")
            assert not collector.spans
        assert {span.name for span in collector.spans} == {"GET /api/tags", "GET"}


async def test_a_collector_that_refuses_costs_no_request_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.telemetry.traces.TIMEOUT", 0.2)
    async with (
        collecting(status=b"500 No") as collector,
        Ollama() as one,
        running(one.url, middleware=chain(collector.url)) as proxy,
    ):
        for _ in range(50):
            assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).clean
        assert not collector.spans


async def test_without_propagation_the_callers_context_goes_no_further() -> None:
    async with (
        collecting() as collector,
        Ollama() as one,
        running(one.url, middleware=chain(collector.url, propagate=False, sample="0%")) as proxy,
    ):
        await ask(proxy.address, "POST", "/api/chat", CHAT, headers={"traceparent": PARENT, "tracestate": "a=1"})
        assert not headers_of(one, b"traceparent") + headers_of(one, b"tracestate")
        assert (await proxy.log.request())["trace_id"] is None
    assert not collector.spans
