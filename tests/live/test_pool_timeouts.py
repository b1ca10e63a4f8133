"""Every time-out by its name: its own error, its own word in the log, and who is blamed for it."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.simulator import Ollama
from tests.support.backend import black_hole, eventually
from tests.support.proxy import running
from tests.support.wire import Client, Reply, ask, request

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
PATIENT = {"connect": "5s", "load": "5s", "first_byte": "5s", "idle": "5s", "total": "5s"}
SHORT = "100ms"


@asynccontextmanager
async def timing_out(timer: str, sim: Ollama) -> AsyncIterator[Any]:
    """Run a proxy in which only one timer is short; `retry` would hide nothing with a single backend."""
    timeouts = {**PATIENT, timer: SHORT}
    async with running(sim.url, pool={"timeouts": timeouts, "grace": "0s"}) as proxy:
        yield proxy


async def failed(proxy: Any, reply: Reply, timer: str) -> None:
    """See that a request which ended before its answer began says why, to the client and in the log."""
    line = proxy.log.requests[-1]
    assert reply.status == 504
    assert reply.clean
    assert (line["outcome"], line["error_code"], line["status"]) == ("timed_out", f"{timer}_timeout", 504)
    assert f"(timer {timer})" in line["error"]
    assert reply.headers["x-error-code"] == f"{timer}_timeout"
    host = proxy.app.pool.backends[0]
    told = line["error"].replace(host.shown, f"the backend {host.name}")  # its address is for the log
    assert told in reply.body.decode()
    assert host.leases == 0


async def test_connect() -> None:
    async with black_hole() as url, running(url, pool={"timeouts": {**PATIENT, "connect": SHORT}}) as proxy:
        await failed(proxy, await ask(proxy.address, "POST", "/api/chat", CHAT), "connect")


async def test_load() -> None:
    async with Ollama(load_delay=30.0) as sim, timing_out("load", sim) as proxy:
        await failed(proxy, await ask(proxy.address, "POST", "/api/chat", CHAT), "load")


async def test_a_load_has_its_own_time() -> None:
    async with Ollama(load_delay=0.3) as sim, timing_out("first_byte", sim) as proxy:
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).clean


async def test_first_byte() -> None:
    async with Ollama() as sim, timing_out("first_byte", sim) as proxy:
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).clean
        sim.settings.prompt_delay = 30.0
        await failed(proxy, await ask(proxy.address, "POST", "/api/chat", CHAT), "first_byte")


async def test_a_head_without_a_body_is_no_answer_yet() -> None:
    async with Ollama() as sim, timing_out("idle", sim) as proxy:
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).clean
        sim.fault("stall", route="/api/chat", head=True)
        await failed(proxy, await ask(proxy.address, "POST", "/api/chat", CHAT), "first_byte")


async def test_idle() -> None:
    async with Ollama() as sim, timing_out("idle", sim) as proxy:
        sim.fault("stall", route="/api/chat", after=2)
        reply = await ask(proxy.address, "POST", "/api/chat", CHAT)
        line = await proxy.log.request()
        assert (reply.status, reply.clean) == (200, False)
        assert (line["outcome"], line["error_code"]) == ("upstream_truncated", "idle_timeout")


async def test_total_before_the_first_byte() -> None:
    async with Ollama(load_delay=30.0) as sim, timing_out("total", sim) as proxy:
        await failed(proxy, await ask(proxy.address, "POST", "/api/chat", CHAT), "total")
        assert proxy.app.pool.backends[0].health.state == "up"  # it is nobody's fault that an answer is long


async def test_total_in_the_stream() -> None:
    async with Ollama(token_delay=0.01, tokens=100_000) as sim, timing_out("total", sim) as proxy:
        reply = await ask(proxy.address, "POST", "/api/chat", CHAT)
        line = await proxy.log.request()
        assert (reply.status, reply.clean) == (200, False)
        assert (line["outcome"], line["error_code"]) == ("upstream_truncated", "total_timeout")


async def test_a_pull_takes_as_long_as_it_takes() -> None:
    async with Ollama(pull_delay=0.03) as sim, timing_out("total", sim) as proxy:
        assert (await ask(proxy.address, "POST", "/api/pull", {"model": "phi4"})).clean


async def test_queue() -> None:
    async with Ollama() as sim:
        host = {"name": "b1", "url": sim.url, "slots": 1}
        async with running(host, middleware=["logging", {"queue": {"wait": SHORT}}, "retry"]) as proxy:
            held = sim.fault("stall", route="/api/chat")
            first = await Client.connect(proxy.address)
            await first.send(request("POST", "/api/chat", CHAT))
            await sim.wait_for(lambda: held.hits == 1)
            reply = await ask(proxy.address, "POST", "/api/chat", CHAT)
            line = await proxy.log.request()
            assert reply.status == 503
            assert int(reply.headers["retry-after"]) >= 1
            assert (line["outcome"], line["error_code"]) == ("timed_out", "queue_timeout")
            held.release()
            assert (await first.read()).clean
            await first.close()


@pytest.mark.parametrize("hosts", [1, 2])
async def test_one_try_of_several(hosts: int) -> None:
    """`retry: {first_byte: …}` bounds a try while another backend is left; the last one has all the time there is."""
    retry = {"retry": {"first_byte": SHORT, "attempts": 5}}
    async with Ollama() as one, Ollama() as two:
        urls = [one.url, two.url][:hosts]
        async with running(*urls, middleware=["logging", retry], pool={"grace": "0s"}) as proxy:
            for name in ("b1", "b2")[:hosts]:  # it is in memory everywhere: loading has its own time
                assert (await ask(proxy.address, "POST", f"/-/backends/{name}/api/chat", CHAT)).clean
            for sim in (one, two):
                sim.settings.prompt_delay = 0.4
            assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).clean
            line = proxy.log.requests[-1]
            assert line["attempts"] == hosts
            backends = proxy.app.pool.backends
            assert [backend.last_error is not None for backend in backends].count(True) == hosts - 1
            await eventually(lambda: not any(backend.leases for backend in backends))


MANAGING: list[tuple[str, str, dict[str, Any] | bytes]] = [
    ("POST", "/api/pull", {"model": "phi4", "stream": False}),
    ("POST", "/api/pull", {"model": "phi4"}),
    ("POST", "/api/push", {"model": "llama3.2"}),
    ("POST", "/api/create", {"model": "mine", "from": "llama3.2"}),
    ("POST", "/api/copy", {"source": "llama3.2", "destination": "mine"}),
    ("DELETE", "/api/delete", {"model": "llama3.2"}),
    ("POST", "/api/blobs/sha256:" + hashlib.sha256(b"blob").hexdigest(), b"blob"),
]


@pytest.mark.parametrize(("method", "path", "body"), MANAGING)
@pytest.mark.parametrize("after", [0, 1])
async def test_what_manages_a_host_is_cut_by_no_timer_of_generations(
    method: str, path: str, body: dict[str, Any] | bytes, after: int
) -> None:
    """A registry that is silent for long, before the first byte or behind one, is not the host's fault."""
    times = {"load": SHORT, "first_byte": SHORT, "idle": SHORT, "write": SHORT, "total": SHORT}
    retry = {"retry": {"first_byte": SHORT}}
    async with Ollama() as sim, running(sim.url, pool={"timeouts": times}, middleware=["logging", retry]) as proxy:
        sim.fault("stall", route=path if "blobs" not in path else "/api/blobs/{digest}", after=after, delay=0.4)
        reply = await ask(proxy.address, method, path, body)
        assert (reply.status // 100, reply.clean) == (2, True)
        assert (await proxy.log.request())["outcome"] == "completed"


@pytest.mark.parametrize("everywhere", [True, False])
async def test_a_pull_on_several_hosts_has_the_times_of_a_pull(everywhere: bool) -> None:
    times = {"load": SHORT, "first_byte": SHORT, "idle": SHORT}
    name = {"X-Ollama-Backend": "all" if everywhere else "b2"}
    async with Ollama() as one, Ollama() as two, running(one.url, two.url, pool={"timeouts": times}) as proxy:
        two.fault("stall", route="/api/pull", after=1, delay=0.4)
        reply = await ask(proxy.address, "POST", "/api/pull", {"model": "phi4"}, name)
        assert reply.clean
        assert b'"status":"success"' in reply.chunks[-1].replace(b" ", b"")


async def test_manage() -> None:
    async with Ollama() as sim, timing_out("manage", sim) as proxy:
        sim.fault("stall", route="/api/pull")
        await failed(proxy, await ask(proxy.address, "POST", "/api/pull", {"model": "phi4"}), "manage")


async def test_manage_in_the_progress() -> None:
    async with Ollama() as sim, timing_out("manage", sim) as proxy:
        sim.fault("stall", route="/api/pull", after=1)
        reply = await ask(proxy.address, "POST", "/api/pull", {"model": "phi4"})
        line = await proxy.log.request()
        assert (reply.status, reply.clean) == (200, False)
        assert (line["outcome"], line["error_code"]) == ("upstream_truncated", "manage_timeout")


TOOL: dict[str, Any] = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
ASKING: dict[str, dict[str, Any]] = {
    "/api/chat": CHAT,
    "/v1/chat/completions": {**CHAT, "stream": True},
    "/v1/responses": {"model": "llama3.2", "input": "hi", "stream": True},
    "/v1/messages": {**CHAT, "max_tokens": 9, "stream": True},
}


@pytest.mark.parametrize("path", ASKING)
@pytest.mark.parametrize("long", [False, True])
async def test_a_tool_call_that_is_held_back_is_no_stall(path: str, long: bool) -> None:
    """The body is read on the loop where it is short, and by a thread where it is long."""
    tool = {"name": "add", "input_schema": {"type": "object"}} if path == "/v1/messages" else TOOL
    tool = {"type": "function", "name": "add", "parameters": {}} if path == "/v1/responses" else tool
    body = {**ASKING[path], "tools": [tool], "metadata": {"padding": "x" * (100_000 if long else 1)}}
    async with Ollama() as sim, timing_out("idle", sim) as proxy:
        sim.fault("stall", route=path, after=1, delay=0.4)
        assert (await ask(proxy.address, "POST", path, body)).clean


@pytest.mark.parametrize("path", ASKING)
@pytest.mark.parametrize("tools", [None, []])
async def test_without_tools_a_silence_is_a_stall(path: str, tools: list[Any] | None) -> None:
    async with Ollama() as sim, timing_out("idle", sim) as proxy:
        sim.fault("stall", route=path, after=1)
        assert not (await ask(proxy.address, "POST", path, {**ASKING[path], "tools": tools})).clean
        assert (await proxy.log.request())["error_code"] == "idle_timeout"


async def test_tools() -> None:
    """The silence of a request with tools has a bound, too, by the name of the timer that it lengthens."""
    async with Ollama() as sim, timing_out("tools", sim) as proxy:
        sim.fault("stall", route="/api/chat", after=1)
        assert not (await ask(proxy.address, "POST", "/api/chat", {**CHAT, "tools": [TOOL]})).clean
        line = await proxy.log.request()
        assert line["error_code"] == "idle_timeout"
        assert "for 0.1 s" in line["error"]
