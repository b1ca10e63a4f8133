"""Requests that only load or unload a model: they wait for nobody, and an unload reaches every host."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.proxy import Running, running
from tests.support.wire import Client, Reply, ask, request

MODEL = "llama3.2"
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
QUEUE: list[object] = ["logging", "queue", "retry"]
UNLOADS: list[tuple[str, dict[str, Any]]] = [
    ("/api/generate", {"model": MODEL, "keep_alive": 0}),
    ("/api/generate", {"model": MODEL, "prompt": "", "keep_alive": "0", "stream": False}),
    ("/api/generate", {"model": MODEL, "prompt": "", "keep_alive": "-0s"}),
    ("/api/chat", {"model": MODEL, "keep_alive": "0s"}),
    ("/api/chat", {"model": MODEL, "messages": [], "keep_alive": 0.5}),
    ("/api/chat", {"model": MODEL, "messages": None, "keep_alive": -0.0, "stream": False}),
]
LOADS: list[tuple[str, dict[str, Any]]] = [
    ("/api/generate", {"model": MODEL}),
    ("/api/generate", {"model": MODEL, "prompt": "", "keep_alive": "10m"}),
    ("/api/chat", {"model": MODEL, "messages": [], "keep_alive": -1}),
    ("/api/chat", {"model": MODEL, "stream": False}),
]
WORK: list[tuple[str, dict[str, Any]]] = [
    ("/api/generate", {"model": MODEL, "prompt": "hi", "keep_alive": 0}),
    ("/api/chat", {**CHAT, "keep_alive": 0}),
    ("/api/embed", {"model": MODEL, "input": "hi", "keep_alive": 0}),
    ("/v1/chat/completions", {"model": MODEL, "messages": [], "keep_alive": 0}),
]


@asynccontextmanager
async def busy(sim: Ollama, **more: Any) -> AsyncIterator[Running]:
    """Run a proxy before one host, whose only slot is taken as long as the block runs."""
    host = {"name": "b1", "url": sim.url, "slots": 1, "model_slots": {MODEL: 1}}
    async with running(host, middleware=[*QUEUE], **more) as proxy:
        held = sim.fault("stall", route="/api/chat", after=1)
        client = await Client.connect(proxy.address)
        await client.send(request("POST", "/api/chat", CHAT))
        await sim.wait_for(lambda: held.hits == 1)
        yield proxy
        held.release()
        assert (await client.read()).clean
        await client.close()
        await eventually(lambda: not proxy.app.pool.backends[0].leases)


def reason(reply: Reply) -> Any:
    assert (reply.status, reply.clean) == (200, True), reply.body
    return orjson.loads(reply.body)["done_reason"]


@pytest.mark.parametrize(("path", "body"), [*UNLOADS, *LOADS])
async def test_it_waits_for_no_slot_and_takes_none(path: str, body: dict[str, Any]) -> None:
    async with Ollama() as sim, busy(sim) as proxy:
        wanted = "unload" if (path, body) in UNLOADS else "load"
        assert reason(await ask(proxy.address, "POST", path, body)) == wanted
        assert (proxy.app.pool.backends[0].active, proxy.app.scheduler.counts.waited) == (1, 0)
        assert (await proxy.log.request())["outcome"] == "completed"


@pytest.mark.parametrize(("path", "body"), WORK)
async def test_what_asks_for_an_answer_waits(path: str, body: dict[str, Any]) -> None:
    async with Ollama() as sim, busy(sim) as proxy:
        waiter = asyncio.create_task(ask(proxy.address, "POST", path, body))
        await eventually(lambda: sum(proxy.app.scheduler.status().waiting.values()) == 1)
        waiter.cancel()
        await eventually(lambda: not proxy.app.scheduler.status().waiting)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"llama3.2","Messages":[{"role":"user","content":"hi"}]}',
        b'{"model":"llama3.2","messages":[{"role":"user","content":"hi"}],"messages":null}',
        b'{"model":"llama3.2","me\\u017f\\u017fages":[{"role":"user","content":"hi"}],"keep_alive":0}',
    ],
)
async def test_nobody_passes_the_queue_by_hiding_a_prompt(body: bytes) -> None:
    async with Ollama() as sim, busy(sim) as proxy:
        waiter = asyncio.create_task(ask(proxy.address, "POST", "/api/chat", body))
        await eventually(lambda: sum(proxy.app.scheduler.status().waiting.values()) == 1)
        waiter.cancel()
        await eventually(lambda: not proxy.app.scheduler.status().waiting)


async def loaded(proxy: Running, *sims: Ollama) -> None:
    """Load the model on every host."""
    for number, _ in enumerate(sims, 1):
        assert (await ask(proxy.address, "POST", f"/-/backends/b{number}/api/chat", CHAT)).clean
    assert all(sim.engine.loaded for sim in sims)


@pytest.mark.parametrize(("path", "body"), UNLOADS)
@pytest.mark.parametrize("watched", [True, False])
async def test_an_unload_reaches_every_host(path: str, body: dict[str, Any], watched: bool) -> None:
    async with Ollama() as one, Ollama() as two, Ollama() as three:
        async with running(one.url, two.url, three.url, middleware=QUEUE, watched=watched) as proxy:
            await loaded(proxy, one, two)
            alone = await ask((three.host, three.port), "POST", path, body)
            reply = await ask(proxy.address, "POST", path, body)
            assert reason(reply) == "unload"
            assert list(orjson.loads(reply.body)) == list(orjson.loads(alone.body))
            assert not any(sim.engine.loaded for sim in (one, two))
            line = await proxy.log.request(3)
            assert (line["backend"], line["reason"], line["outcome"]) == ("all", "unload", "completed")
            assert all(not backend.resident and not backend.leases for backend in proxy.app.pool.backends)


async def test_an_unload_of_one_named_host_leaves_the_others_alone() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        await loaded(proxy, one, two)
        reply = await ask(proxy.address, "POST", *UNLOADS[0], {"X-Ollama-Backend": "b2"})
        assert reason(reply) == "unload"
        assert one.engine.loaded
        assert not two.engine.loaded
        hosts = proxy.app.pool.backends
        assert [bool(host.resident) for host in hosts] == [True, False]


async def test_a_host_that_fails_to_unload_is_told() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        await loaded(proxy, one, two)
        two.fault("status", route="/api/generate", status=500, message="no", times=None)
        reply = await ask(proxy.address, "POST", *UNLOADS[0])
        assert reply.status == 502
        text = orjson.loads(reply.body)["error"]
        assert "b2: no" in text
        assert "unloaded at b1" in text
        line = await proxy.log.request(3)
        assert (line["outcome"], line["error_code"]) == ("upstream_failed", "unload_failed")
        assert not one.engine.loaded
        assert len(one.seen("/api/generate")) == 1  # it is not done again where it was done


async def test_a_host_that_lets_nobody_in_is_told() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        await loaded(proxy, one, two)
        one.fault("status", route="/api/generate", status=403, body=b"", times=None)
        reply = await ask(proxy.address, "POST", *UNLOADS[0])
        assert reply.status == 502
        assert b"b1: it answered 403 (unloaded at b2)" in reply.body


async def test_what_all_hosts_refuse_is_refused_as_they_say_it() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        for sim in (one, two):
            sim.fault("status", route="/api/generate", status=400, message="no", times=None)
        reply = await ask(proxy.address, "POST", *UNLOADS[0])
        assert (reply.status, orjson.loads(reply.body)) == (400, {"error": "no"})


async def test_a_host_that_is_gone_is_told_and_the_others_unload() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        await loaded(proxy, one, two)
        await two.stop()
        reply = await ask(proxy.address, "POST", *UNLOADS[0])
        assert reply.status == 502
        assert b"unloaded at b1" in reply.body
        assert not one.engine.loaded


async def test_a_model_that_one_host_has_is_unloaded_there() -> None:
    async with Ollama() as one, Ollama("qwen3") as two, running(one.url, two.url) as proxy:
        await loaded(proxy, one)
        assert reason(await ask(proxy.address, "POST", *UNLOADS[0])) == "unload"
        assert not one.engine.loaded


async def test_a_model_that_nobody_has_cannot_be_unloaded() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        reply = await ask(proxy.address, "POST", "/api/generate", {"model": "nope", "keep_alive": 0})
        assert (reply.status, orjson.loads(reply.body)) == (404, {"error": "model 'nope' not found"})
        assert len(one.requests) == len(two.requests) == 1


async def test_an_unload_stays_with_the_model_that_it_names() -> None:
    """A fallback stands in for a model that shall answer, not for one that shall go."""
    retry = {"retry": {"fallback": {"nope": [MODEL]}}}
    async with Ollama() as one, Ollama() as two, running(one.url, two.url, middleware=["logging", retry]) as proxy:
        await loaded(proxy, one, two)
        reply = await ask(proxy.address, "POST", "/api/generate", {"model": "nope", "keep_alive": 0})
        assert reply.status == 404
        assert one.engine.loaded
        assert two.engine.loaded


async def test_after_an_unload_the_model_is_cold() -> None:
    """The next request gets the time of a load, also where the model left when the last request had ended."""
    times = {"first_byte": "100ms", "load": "5s"}
    async with Ollama() as sim, running(sim.url, pool={"timeouts": times}) as proxy:
        await loaded(proxy, sim)
        held = sim.fault("stall", route="/api/chat", after=1)
        client = await Client.connect(proxy.address)
        await client.send(request("POST", "/api/chat", CHAT))
        await sim.wait_for(lambda: held.hits == 1)
        assert reason(await ask(proxy.address, "POST", *UNLOADS[0])) == "unload"
        assert sim.engine.loaded  # a request uses it
        held.release()
        assert (await client.read()).clean
        await client.close()
        await eventually(lambda: not sim.engine.loaded and not proxy.app.pool.backends[0].leases)
        sim.settings.load_delay = 0.4
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).clean


async def test_a_load_has_the_time_of_a_load_and_makes_the_model_warm() -> None:
    times = {"first_byte": "100ms", "load": "5s"}
    async with Ollama(load_delay=0.4) as sim, running(sim.url, pool={"timeouts": times}) as proxy:
        assert reason(await ask(proxy.address, "POST", *LOADS[0])) == "load"
        (host,) = proxy.app.pool.backends
        (key,) = host.resident
        assert proxy.app.pool.outcomes.load_times.get(key) is not None
        assert proxy.app.pool.outcomes.service_times.get(key) is None  # it held no slot
        sim.settings.prompt_delay = 30.0
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).status == 504  # it is warm, and slow
        assert (await proxy.log.request(2))["error_code"] == "first_byte_timeout"


async def test_a_load_goes_where_the_model_is_and_where_else_there_is_room() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url, watched=True) as proxy:
        await loaded(proxy, one)
        for _ in range(4):
            assert reason(await ask(proxy.address, "POST", *LOADS[0])) == "load"
        assert (one.counters.loads, two.counters.loads) == (1, 0)


@pytest.mark.parametrize("rule", [{"min": "5m"}, {"set": "10m"}, {"drop": True}, {"default": "5m", "min": "1m"}])
@pytest.mark.parametrize(("path", "body"), UNLOADS)
async def test_a_rule_about_keep_alive_makes_no_load_of_an_unload(
    path: str, body: dict[str, Any], rule: dict[str, Any]
) -> None:
    chain: list[object] = ["logging", {"parameters": {"keep_alive": rule}}, *QUEUE[1:]]
    async with Ollama() as one, Ollama() as two, running(one.url, two.url, middleware=chain) as proxy:
        reply = await ask(proxy.address, "POST", path, body)
        assert reply.status == 403
        assert b"unload" in orjson.loads(reply.body)["error"].encode()
        assert not one.requests
        assert not two.requests


async def test_both_count_for_limits() -> None:
    limit = {"rate_limit": {"requests": "2/minute", "by": "address"}}
    async with Ollama() as one, Ollama() as two, running(one.url, two.url, middleware=["logging", limit]) as proxy:
        statuses = [(await ask(proxy.address, "POST", *what)).status for what in (UNLOADS[0], LOADS[0], UNLOADS[0])]
        assert statuses == [200, 200, 429]


async def test_explain_says_where_an_unload_goes() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url, middleware=QUEUE) as proxy:
        asked = {"method": "POST", "path": "/api/generate", "body": {"model": MODEL, "keep_alive": 0}}
        reply = await ask(proxy.address, "POST", "/-/explain", asked)
        text = reply.body.decode()
        assert "it goes to every backend that may have the model in memory: b1, b2" in text
        assert "it only unloads the model, and takes no slot" in text
