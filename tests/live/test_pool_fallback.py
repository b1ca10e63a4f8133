"""Another model in its place, and embeddings asked of two: over real sockets, with and without the queue."""

import asyncio
from typing import Any

import ollama
import openai
import orjson
import pytest

from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.proxy import Running, running
from tests.support.wire import Client, ask, request

BIG, SMALL = "llama3.3:70b", "llama3.1:8b"
CHAT: dict[str, Any] = {"model": BIG, "messages": [{"role": "user", "content": "hi"}]}
RETRY: dict[str, Any] = {"retry": {"fallback": {BIG: [SMALL, "qwen3"]}}}
CHAINS = {"bare": ["logging", RETRY], "queued": ["logging", "queue", RETRY]}


def host(sim: Ollama, name: str = "b1", slots: int = 2) -> dict[str, Any]:
    return {"name": name, "url": sim.url, "slots": slots}


async def looked(proxy: Running, times: int = 1) -> None:
    for _ in range(times):
        for backend in proxy.app.pool.backends:
            await proxy.app.watch.look(backend)


def nothing_held(proxy: Running) -> bool:
    return not any(backend.leases or backend.active for backend in proxy.app.pool.backends)


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
async def test_every_attempt_fails(chain: list[Any]) -> None:
    async with Ollama(BIG, SMALL) as one, Ollama(BIG, SMALL) as two:
        async with running(host(one), host(two, "b2"), middleware=chain, pool={"grace": "0s"}) as proxy:
            for sim in (one, two):
                sim.fault("status", status=500, times=None, when=lambda seen: seen.json()["model"] == BIG)
            raw = b'{"model" : "llama3.3:70b","messages":[{"role":"user","content":"hi"}] }'
            reply = await ask(proxy.address, "POST", "/api/chat", raw)
            assert (reply.status, reply.clean) == (200, True)
            assert reply.headers["x-ollama-proxy-model"] == SMALL
            assert {orjson.loads(chunk)["model"] for chunk in reply.chunks} == {SMALL}
            (served,) = [seen for sim in (one, two) for seen in sim.seen("/api/chat") if seen.status == 200]
            assert served.body == raw.replace(b"llama3.3:70b", b"llama3.1:8b")
            line = await proxy.log.request()
            assert (line["model_asked"], line["model"], line["attempts"]) == (BIG, SMALL, 3)
            assert line["gave_up"] is None
            await eventually(lambda: nothing_held(proxy))


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
async def test_the_only_host_that_has_it_is_down(chain: list[Any]) -> None:
    async with Ollama(BIG) as one, Ollama("qwen3") as two:
        async with running(host(one), host(two, "b2"), middleware=chain) as proxy:
            await looked(proxy)
            await one.stop()
            await looked(proxy, 3)
            reply = await ask(proxy.address, "POST", "/v1/chat/completions", CHAT)
            assert reply.status == 200
            assert reply.headers["x-ollama-proxy-model"] == "qwen3:latest"
            line = await proxy.log.request()
            assert (line["backend"], line["attempts"]) == ("b2", 1)  # nobody asked the dead one
            await eventually(lambda: nothing_held(proxy))


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
async def test_when_nothing_is_left_the_error_is_about_what_was_asked(chain: list[Any]) -> None:
    async with Ollama(BIG, SMALL) as sim, running(host(sim), middleware=chain) as proxy:
        sim.fault("status", status=500, times=None, message="out of memory")
        reply = await ask(proxy.address, "POST", "/api/chat", CHAT)
        assert (reply.status, reply.body) == (500, b'{"error":"out of memory"}')
        assert "x-ollama-proxy-model" not in reply.headers
        assert [seen.json()["model"] for seen in sim.requests] == [BIG, SMALL, "qwen3:latest"]
        await eventually(lambda: nothing_held(proxy))


async def test_busy_hosts_are_no_reason_while_there_is_a_queue() -> None:
    async with Ollama(BIG, SMALL) as sim, running(host(sim, slots=1), middleware=CHAINS["queued"]) as proxy:
        held = sim.fault("stall", route="/api/chat")
        chats = [asyncio.create_task(ask(proxy.address, "POST", "/api/chat", CHAT)) for _ in range(2)]
        await sim.wait_for(lambda: held.hits == 1)
        await eventually(lambda: bool(proxy.app.scheduler.status().waiting))
        held.release()
        assert all("x-ollama-proxy-model" not in reply.headers for reply in await asyncio.gather(*chats))


async def test_the_official_clients_get_the_other_model() -> None:
    async with Ollama(SMALL) as sim, running(host(sim), middleware=CHAINS["bare"]) as proxy:
        await looked(proxy)
        client = ollama.AsyncClient(proxy.url)
        assert (await client.chat(BIG, CHAT["messages"])).model == SMALL
        await client._client.aclose()
        async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="none") as sdk:
            raw = await sdk.chat.completions.with_raw_response.create(model=BIG, messages=CHAT["messages"])
            assert raw.headers["x-ollama-proxy-model"] == SMALL


# Hedging

EMBED: dict[str, Any] = {"model": "nomic-embed-text", "input": "hi"}
HEDGED = ["logging", {"retry": {"hedge": {"after": "50ms"}}}]


async def test_a_slow_embedding_is_asked_of_a_second_host_and_the_first_is_called_off() -> None:
    async with Ollama() as one, Ollama() as two:
        async with running(host(one), host(two, "b2"), middleware=HEDGED, pool={"grace": "0s"}) as proxy:
            assert (await ask(proxy.address, "POST", "/-/backends/b1/api/embed", EMBED)).clean  # so it goes there first
            slow = one.fault("stall", route="/api/embed", times=None)
            replies = [await ask(proxy.address, "POST", "/api/embed", EMBED) for _ in range(6)]
            assert all(reply.clean and orjson.loads(reply.body)["embeddings"] for reply in replies)
            assert slow.hits >= 1
            await one.wait_for(lambda: one.counters.active == 0)
            await proxy.log.request(7)
            lines = proxy.log.requests[1:]
            assert {line["backend"] for line in lines} == {"b2"}
            assert sum(line["attempts"] for line in lines) == 6 + slow.hits
            await eventually(lambda: nothing_held(proxy))


async def test_who_leaves_leaves_both() -> None:
    async with Ollama() as one, Ollama() as two:
        async with running(host(one), host(two, "b2"), middleware=HEDGED, pool={"grace": "0s"}) as proxy:
            held = [sim.fault("stall", route="/api/embed") for sim in (one, two)]
            client = await Client.connect(proxy.address)
            await client.send(request("POST", "/api/embed", EMBED))
            for sim, fault in zip((one, two), held, strict=True):
                await sim.wait_for(lambda fault=fault: fault.hits)  # type: ignore[misc]
            client.hang_up()
            line = await proxy.log.request()
            assert line["outcome"] == "client_gone"
            for sim in (one, two):
                await sim.wait_for(lambda sim=sim: sim.counters.active == 0)  # type: ignore[misc]
            await eventually(lambda: nothing_held(proxy))


async def test_a_hedge_takes_no_slot_from_anybody() -> None:
    async with Ollama() as one, Ollama() as two:
        chain = ["logging", "queue", *HEDGED[1:]]
        async with running(host(one, slots=1), host(two, "b2", slots=1), middleware=chain) as proxy:
            held = [sim.fault("stall", route=route) for sim, route in ((one, "/api/embed"), (two, "/api/chat"))]
            chat = asyncio.create_task(
                ask(proxy.address, "POST", "/-/backends/b2/api/chat", {**CHAT, "model": "llama3.2"})
            )
            await two.wait_for(lambda: held[1].hits == 1)
            embed = asyncio.create_task(ask(proxy.address, "POST", "/api/embed", EMBED))
            await one.wait_for(lambda: held[0].hits == 1)
            done, _ = await asyncio.wait([embed], timeout=0.2)  # time for a hedge, if there was a slot
            assert not done
            assert two.counters.requests == 1
            for fault in held:
                fault.release()
            assert (await embed).clean
            assert (await chat).clean
            await eventually(lambda: nothing_held(proxy))
