"""Errors in a 200: the client gets them as they came, and for whoever operates the proxy they are failures."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest

from proxy.simulator import Ollama
from proxy.simulator.request import Request
from tests.support.metrics import Numbers
from tests.support.pieces import APIS, ask_for, chunked
from tests.support.proxy import Running, running
from tests.support.wire import ask

BOOM = "llama runner process has terminated: exit status 2"
CHAIN = ["logging", "metrics", "retry"]
CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}


def event(name: str = "", **members: Any) -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + json.dumps(members).encode() + b"\n\n"


RECORDS: dict[str, tuple[str, bytes]] = {
    "generate": ("generate", orjson.dumps({"error": BOOM}) + b"\n"),
    "chat": ("chat", orjson.dumps({"error": BOOM}) + b"\n"),
    "chat completions": ("chat completions", event(error={"message": BOOM, "type": "server_error"})),
    "chat completions, a text": ("chat completions", event(error=BOOM)),
    "completions": ("completions", event(error={"message": BOOM})),
    "messages": ("messages", event("error", type="error", error={"type": "api_error", "message": BOOM})),
    "messages, no JSON": ("messages", f"event: error\ndata: {BOOM}\n\n".encode()),
    "responses": (
        "responses",
        event("response.failed", type="response.failed", response={"status": "failed", "error": {"message": BOOM}}),
    ),
    "responses, an error": ("responses", event("error", type="error", code="server_error", message=BOOM)),
}


def failures(proxy: Running, code: str) -> float | None:
    return Numbers(proxy.app.metrics.now())("ollama_proxy_attempt_failures_total", backend="b1", code=code)


@pytest.mark.parametrize("name", RECORDS)
async def test_it_goes_out_as_it_came_and_is_told_as_a_failure(name: str) -> None:
    api, record = APIS[RECORDS[name][0]], RECORDS[name][1]
    sent = [api.write("a"), api.write("b"), record]
    async with Ollama() as sim, running(sim.url, middleware=CHAIN) as proxy:
        sim.fault("script", route=api.path, parts=chunked(api.layout, sent), finish="keep")
        reply = await ask(proxy.address, "POST", api.path, ask_for(api.path))
        assert (reply.status, reply.clean, reply.chunks) == (200, True, sent)
        line = await proxy.log.request()
        assert (line["outcome"], line["level"], line["error_code"]) == ("upstream_failed", "warning", "upstream_error")
        assert line["error"] == f"the backend ended its answer with an error: {BOOM}"
        assert (line["terminated"], line["attempts"], line["status"]) == (True, 1, 200)
        (backend,) = proxy.app.pool.backends
        assert (backend.health.state, backend.last_error) == ("suspect", line["error"])
        assert failures(proxy, "upstream_error") == 1
        numbers = Numbers(proxy.app.metrics.now())
        assert numbers("ollama_proxy_requests_total", outcome="upstream_failed", status="2xx") == 1
        assert numbers("gen_ai_server_request_duration_seconds_count", error_type="upstream_error") == 1


BODIES: dict[str, dict[str, Any]] = {
    "/api/chat": {"error": BOOM},
    "/v1/chat/completions": {"error": {"message": BOOM, "type": "server_error"}},
    "/v1/messages": {"type": "error", "error": {"type": "api_error", "message": BOOM}},
    "/v1/responses": {"object": "response", "status": "failed", "error": {"code": "server_error", "message": BOOM}},
}


@pytest.mark.parametrize("path", BODIES)
async def test_so_is_a_whole_body_that_is_an_error(path: str) -> None:
    body = orjson.dumps(BODIES[path])
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with Ollama() as sim, running(sim.url, middleware=CHAIN) as proxy:
        sim.fault("script", route=path, parts=(head + body,), finish="keep")
        reply = await ask(proxy.address, "POST", path, ask_for(path, stream=False))
        assert (reply.status, reply.clean, reply.body) == (200, True, body)
        line = await proxy.log.request()
        assert (line["outcome"], line["level"]) == ("upstream_failed", "warning")
        assert line["error"].endswith(BOOM)
        assert failures(proxy, "upstream_error") == 1


async def test_no_secret_in_its_text_gets_into_the_log() -> None:
    key = "sk-abcdefghijklmnopqrstuvwxyz0123456789"
    async with Ollama() as sim, running(sim.url) as proxy:
        sim.fault("error", route="/api/chat", after=2, message=f'pull from "{key}" failed: ' + "x" * 5000)
        assert key.encode() in (await ask(proxy.address, "POST", "/api/chat", CHAT)).body
        line = await proxy.log.request()
        assert key not in json.dumps(line)
        assert "pull from" in line["error"]
        assert len(line["error"]) < 600


async def test_a_client_that_leaves_behind_it_changes_nothing() -> None:
    """Ollama's Go client closes the connection as soon as it has read the record."""
    api, record = APIS["chat"], RECORDS["chat"][1]
    async with Ollama() as sim, running(sim.url) as proxy:
        head, *chunks = chunked("ndjson", [api.write("a"), record], clean=False)
        sim.fault("script", route="/api/chat", parts=(head, *chunks), finish="hang")
        reader, writer = await asyncio.open_connection(*proxy.address)
        body = orjson.dumps(CHAT)
        writer.write(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await reader.readuntil(record)
        writer.close()
        line = await proxy.log.request()
        assert (line["outcome"], line["level"]) == ("upstream_failed", "warning")
        assert line["error"].endswith(BOOM)
        assert proxy.app.pool.backends[0].health.state == "suspect"


async def test_the_conversation_does_not_go_there_again() -> None:
    """Whichever host has the model in memory, and answered the conversation before."""
    async with Ollama() as one, Ollama() as two, running(one.url, two.url, middleware=CHAIN) as proxy:
        hosts = {"b1": one, "b2": two}
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).clean
        first = (await proxy.log.request())["backend"]
        sick, well = hosts.pop(first), hosts.popitem()[0]
        sick.fault("error", route="/api/chat", after=1, times=None, message=BOOM)
        for number in range(20):
            await ask(proxy.address, "POST", "/api/chat", CHAT, headers={"X-Session-Id": "c"})
            line = await proxy.log.request(2 + number)
            if number:
                assert (line["backend"], line["outcome"]) == (well, "completed")


@pytest.mark.parametrize("message", [BOOM, "something nobody knows"])
@pytest.mark.parametrize("callers", [1, 60])
async def test_a_host_whose_every_generation_ends_with_one_loses_its_traffic(message: str, callers: int) -> None:
    """Only that host has the model in memory, and its probes are fine."""
    async with AsyncExitStack() as stack:
        sick, *others = [await stack.enter_async_context(Ollama()) for _ in range(3)]
        sick.fault("error", route="/api/chat", after=1, times=None, message=message)
        urls = [sick.url, *(host.url for host in others)]
        pool = {"health": {"every": "50ms"}, "eject": {"after": 3}}
        proxy = await stack.enter_async_context(
            running(*urls, middleware=CHAIN, pool=pool, watched=True, trusted_proxies=["127.0.0.1/32"])
        )
        await ask(proxy.address, "POST", "/api/generate", {"model": "llama3.2"}, {"X-Ollama-Backend": "b1"})
        got = 0
        for number in range(60):
            body = CHAT | {"messages": [{"role": "user", "content": f"question {number}"}]}
            caller = {"X-Forwarded-For": f"10.0.0.{number % callers}"}
            got += message.encode() in (await ask(proxy.address, "POST", "/api/chat", body, caller)).body
        assert 1 <= got <= 10
        assert message in (proxy.app.pool.backends[0].last_error or "")


@pytest.mark.parametrize("message", [BOOM, "something nobody knows"])
async def test_one_caller_who_provokes_them_ejects_no_host_of_others(message: str) -> None:
    async with Ollama() as one, Ollama() as two:
        async with running(one.url, two.url, middleware=CHAIN, trusted_proxies=["127.0.0.1/32"]) as proxy:

            async def say(text: str, caller: str) -> bytes:
                body = CHAT | {"messages": [{"role": "user", "content": text}]}
                return (await ask(proxy.address, "POST", "/api/chat", body, {"X-Forwarded-For": caller})).body

            for number in range(8):
                await say(f"question {number}", f"10.0.0.{number % 4}")
            for host in (one, two):
                host.fault("error", route="/api/chat", after=1, times=None, message=message, when=provoked)
            for number in range(30):
                assert message.encode() in await say("KILL", "10.0.0.9")
                assert {backend.health.state for backend in proxy.app.pool.backends} <= {"up", "suspect"}
                assert b'"done":true' in await say(f"question {number}", f"10.0.0.{number % 4}")


def provoked(request: Request) -> bool:
    return b"KILL" in request.body


ABOUT_THE_REQUEST = {
    "/api/chat": "prediction aborted, token repeat limit reached",
    "/api/pull": 'pull model manifest: Get "https://registry.ollama.ai/v2/library/nope/manifests/latest": no such host',
    "/api/push": "open /models/manifests/registry.ollama.ai/library/nope/latest: no such file or directory",
    "/api/create": f"open /models/blobs/sha256-{'1' * 64}: no such file or directory",
}


@pytest.mark.parametrize("path", ABOUT_THE_REQUEST)
async def test_an_error_about_the_request_is_not_the_hosts(path: str) -> None:
    records = [b'{"status":"working"}\n', orjson.dumps({"error": ABOUT_THE_REQUEST[path]}) + b"\n"]
    async with Ollama() as sim, running(sim.url, middleware=CHAIN) as proxy:
        sim.fault("script", route=path, parts=chunked("ndjson", records), finish="keep", times=None)
        for number in range(6):
            assert (await ask(proxy.address, "POST", path, ask_for(path))).chunks == records
            line = await proxy.log.request(number + 1)
            assert (line["outcome"], line["level"]) == ("upstream_failed", "warning")
            assert line["error"].startswith(
                f"the backend ended its answer with an error: {ABOUT_THE_REQUEST[path][:20]}"
            )
        (backend,) = proxy.app.pool.backends
        assert (backend.health.state, backend.last_error) == ("up", None)
        assert failures(proxy, "content") == 6


async def test_a_disk_that_is_full_is_the_hosts() -> None:
    message = "write /models/blobs/sha256-11: no space left on device"
    async with Ollama() as sim, running(sim.url, middleware=CHAIN) as proxy:
        parts = chunked("ndjson", [orjson.dumps({"error": message}) + b"\n"])
        sim.fault("script", route="/api/pull", parts=parts, finish="keep")
        await ask(proxy.address, "POST", "/api/pull", ask_for("/api/pull"))
        assert (await proxy.log.request())["outcome"] == "upstream_failed"
        assert proxy.app.pool.backends[0].last_error is not None


@pytest.mark.parametrize("stream", [True, False])
async def test_a_pull_on_all_backends_that_failed_on_one(stream: bool) -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        one.fault("error", route="/api/pull", after=1, message="no such model there")
        body = {"model": "llama3.2", "stream": stream}
        reply = await ask(proxy.address, "POST", "/-/backends/all/api/pull", body)
        assert (reply.status, reply.clean) == (200 if stream else 500, True)
        line = await proxy.log.request()
        assert (line["outcome"], line["level"], line["error_code"]) == ("upstream_failed", "warning", "pull_failed")
        assert "no such model there" in line["error"]


async def test_the_level_can_be_chosen() -> None:
    chain = [{"logging": {"levels": {"upstream_failed": "critical"}}}]
    async with Ollama() as sim, running(sim.url, middleware=chain) as proxy:
        sim.fault("error", route="/api/chat", after=1)
        await ask(proxy.address, "POST", "/api/chat", CHAT)
        assert (await proxy.log.request())["level"] == "critical"
