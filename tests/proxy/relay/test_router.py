"""proxy/relay/router.py."""

import asyncio

import pytest

from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.proxy import running
from tests.support.wire import ask

CHAT = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("by_header", [False, True])
async def test_a_backend_can_be_named(by_header: bool) -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        for name, sim in (("b1", one), ("b2", two)):
            before = sim.counters.requests
            path = "/api/chat" if by_header else f"/-/backends/{name}/api/chat"
            headers = {"X-Ollama-Backend": name} if by_header else {}
            for _ in range(3):
                assert (await ask(proxy.address, "POST", path, CHAT, headers)).clean
            assert sim.counters.requests == before + 3
            assert sim.last.target == b"/api/chat"
        assert {line["route"] for line in proxy.log.requests} == {"/api/chat"}


@pytest.mark.parametrize("by_header", [False, True])
async def test_the_queue_waits_for_the_backend_that_is_named(by_header: bool) -> None:
    async with Ollama() as one, Ollama() as two:
        hosts = [{"name": f"b{n}", "url": sim.url, "slots": 1} for n, sim in enumerate((one, two), 1)]
        async with running(*hosts, middleware=["logging", "queue", "retry"]) as proxy:
            assert (await ask(proxy.address, "POST", "/-/backends/b1/api/chat", CHAT)).clean  # it is warm there
            held = two.fault("stall", route="/api/chat")
            path = "/api/chat" if by_header else "/-/backends/b2/api/chat"
            headers = {"X-Ollama-Backend": "b2"} if by_header else {}
            chats = [asyncio.create_task(ask(proxy.address, "POST", path, CHAT, headers)) for _ in range(2)]
            await eventually(lambda: held.hits == 1 and proxy.app.scheduler.status().waiting != {})
            assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).clean
            assert len(one.seen("/api/chat")) == 2
            held.release()
            assert all(reply.clean for reply in await asyncio.gather(*chats))
            assert len(two.seen("/api/chat")) == 2
            reply = await ask(proxy.address, "POST", "/api/chat", CHAT, {"X-Ollama-Backend": "nope"})
            assert reply.status == 404
            assert b"there are b1, b2" in reply.body


async def test_a_backend_that_there_is_not() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        reply = await ask(proxy.address, "POST", "/-/backends/nope/api/chat", CHAT)
        assert reply.status == 404
        assert b"there are b1" in reply.body
        assert (await ask(proxy.address, "GET", "/-/backends/nope")).status == 404


async def test_with_one_backend_everything_goes_straight_through() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        for path in ("/api/tags", "/api/ps", "/v1/models", "/api/version", "/"):
            assert (await ask(proxy.address, "GET", path)).status == 200
        assert (await ask(proxy.address, "POST", "/api/pull", {"model": "phi4"})).clean
        assert sim.counters.requests == 6
