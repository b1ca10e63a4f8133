"""Backends that fail, seen from a client: what is retried, what never, and what a bound bounds."""

import asyncio
from time import monotonic
from typing import Any

import pytest

from proxy.simulator import Ollama
from tests.support.proxy import running
from tests.support.wire import ask

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}


async def test_a_host_that_refuses_is_not_noticed() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        await one.stop()
        for _ in range(10):
            reply = await ask(proxy.address, "POST", "/api/chat", CHAT)
            assert reply.status == 200
            assert reply.clean
        assert two.counters.requests == 10


@pytest.mark.parametrize("kind", ["reset", "close"])
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/embed", "/api/show"])
async def test_generation_that_was_sent_is_sent_once_more_elsewhere(kind: Any, path: str) -> None:
    body = {**CHAT, "prompt": "hi", "input": "hi"}
    hosts = Ollama(chat_embeds=True), Ollama(chat_embeds=True)
    async with hosts[0] as one, hosts[1] as two, running(one.url, two.url) as proxy:
        one.fault(kind, route=path)
        for _ in range(2):
            assert (await ask(proxy.address, "POST", path, body)).status == 200
        first = proxy.log.requests[0]
        second = proxy.log.requests[1]
        assert first["attempts"] + second["attempts"] <= 3


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/pull", {"model": "phi4"}),
        ("POST", "/api/push", {"model": "llama3.2"}),
        ("POST", "/api/create", {"model": "mine", "from": "llama3.2"}),
        ("POST", "/api/copy", {"source": "llama3.2", "destination": "mine"}),
        ("DELETE", "/api/delete", {"model": "llama3.2"}),
        ("POST", "/api/blobs/sha256:" + "0" * 64, None),
    ],
)
async def test_what_changes_a_host_is_sent_once(method: str, path: str, body: dict[str, Any] | None) -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        sim.fault("reset", times=None)
        reply = await ask(proxy.address, method, path, body if body is not None else b"blob")
        assert reply.status == 502
        assert len(sim.requests) == 1
        assert (await proxy.log.request())["outcome"] == "upstream_failed"


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"]
)
async def test_an_answer_that_dies_before_its_first_chunk_is_tried_elsewhere(head: bytes) -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        one.script(head, route="/api/chat", times=None)
        for _ in range(4):
            assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).clean


async def test_busy_is_tried_elsewhere_and_relayed_when_all_are() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        one.fault("busy", times=None)
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).status == 200
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).status == 200
        two.fault("busy", times=None)
        reply = await ask(proxy.address, "POST", "/api/chat", CHAT)
        assert reply.status == 503
        assert b"please try again.  maximum pending" in reply.body


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_server_errors_are_tried_elsewhere(status: int) -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        one.fault("status", status=status, times=None)
        for _ in range(4):
            assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).status == 200


async def test_client_errors_are_not_retried() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        reply = await ask(proxy.address, "POST", "/api/chat", {"model": ""})
        assert reply.status == 400
        assert len(sim.requests) == 1


async def test_retries_stay_a_bounded_share_while_everything_fails() -> None:
    """Attempts to backends ≤ 1.2 × requests + what runs at once + a reserve of 10 and one a second."""
    requests, at_once, began = 300, 50, monotonic()
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        for sim in (one, two):
            sim.fault("status", status=500, times=None)
        for _ in range(requests // at_once):
            await asyncio.gather(*(ask(proxy.address, "POST", "/api/chat", CHAT) for _ in range(at_once)))
        attempts = one.counters.requests + two.counters.requests
        assert attempts <= 1.2 * requests + at_once + 10 + monotonic() - began
        assert attempts > requests
        assert {line["status"] for line in proxy.log.requests} == {500}


async def test_nothing_is_retried_behind_the_commit_point() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        for sim in (one, two):
            sim.fault("reset", route="/api/chat", after=1)
        reply = await ask(proxy.address, "POST", "/api/chat", CHAT)
        assert not reply.clean
        assert one.counters.requests + two.counters.requests == 1


async def test_the_retry_log_names_attempts_and_the_last_backend() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        await one.stop()
        for _ in range(4):
            await ask(proxy.address, "POST", "/api/chat", CHAT)
        lines = proxy.log.requests
        assert {line["backend"] for line in lines} == {"b2"}
        assert max(line["attempts"] for line in lines) <= 2


async def test_a_chain_without_retry_still_starts_and_answers() -> None:
    async with Ollama() as sim, running(sim.url, middleware=[]) as proxy:
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).clean
        await sim.stop()
        reply = await ask(proxy.address, "POST", "/api/chat", CHAT)
        assert reply.status == 502
        assert b'"error"' in reply.body
