"""`streaming: {heartbeat: …}` on real sockets: comments before the first token, and what may come behind them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import openai
import pytest

from proxy.chain.heartbeats import HEARTBEAT
from proxy.simulator import Ollama
from tests.support.metrics import Numbers
from tests.support.pieces import ask_for
from tests.support.proxy import Running, running
from tests.support.wire import Client, Reply, ask, request

EVERY = {"streaming": {"heartbeat": "1s"}}
CHAIN: list[Any] = ["logging", "metrics", EVERY, {"retry": {"attempts": 3, "backoff": {"base": "0s"}}}]
EVENTS = ["/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"]
SAID: list[Any] = [{"role": "user", "content": "hi"}]


@asynccontextmanager
async def asking(proxy: Running, path: str, **more: Any) -> AsyncIterator[Client]:
    """Ask for a stream, and wait for the first heartbeat."""
    client = await Client.connect(proxy.address)
    try:
        await client.send(request("POST", path, ask_for(path, **more)))
        yield client
    finally:
        await client.close()


async def behind_heartbeat(proxy: Running, path: str, then: Callable[[], Awaitable[None] | None], **more: Any) -> Reply:
    """Return the whole answer; `then` runs when the first heartbeat is there."""
    async with asking(proxy, path, **more) as client:
        reply = await client.read_head()
        assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
        assert reply.headers["x-accel-buffering"] == "no"
        assert await client.read_chunk() == HEARTBEAT
        waiting = then()
        if waiting is not None:
            await waiting
        try:
            while chunk := await client.read_chunk():
                reply.chunks.append(chunk)
            reply.clean = True
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        return reply


def release(sim: Ollama) -> Callable[[], None]:
    """Stall every request of `sim`; return what lets them go on."""
    return sim.fault("stall", times=None).release


def drop(sim: Ollama) -> None:
    sim.drop()


@pytest.mark.parametrize("path", EVENTS)
async def test_a_stream_goes_on_behind_heartbeats(path: str) -> None:
    async with Ollama() as sim, running(sim.url, middleware=CHAIN) as proxy:
        plain = await ask(proxy.address, "POST", path, ask_for(path))
        reply = await behind_heartbeat(proxy, path, release(sim))
        assert reply.clean
        assert HEARTBEAT not in reply.body
        assert len(reply.chunks) == len(plain.chunks)
        for name in plain.headers.keys() - {"date", "x-request-id"}:
            assert reply.headers[name] == plain.headers[name]
        uncached = path in ("/v1/messages", "/v1/responses")  # as Ollama's own streams are
        assert reply.headers.get("cache-control") == ("no-cache" if uncached else None)
        quick, slow = await proxy.log.request(1), await proxy.log.request(2)
        assert (quick["heartbeats"], slow["heartbeats"]) == (0, 1)
        assert (slow["status"], slow["outcome"], slow["terminated"]) == (200, "completed", True)
        assert (slow["chunks"], slow["bytes_out"]) == (len(reply.chunks), len(reply.body))
        assert slow["ttft_ms"] >= 1000
        assert slow["tokens_out"] == quick["tokens_out"]


@pytest.mark.parametrize(
    ("path", "more"),
    [("/api/chat", {}), ("/api/generate", {}), *((path, {"stream": False}) for path in EVENTS)],
)
async def test_others_get_none(path: str, more: dict[str, Any]) -> None:
    """They wait beside a request that gets heartbeats, and longer than that."""
    async with Ollama() as sim, running(sim.url, middleware=CHAIN) as proxy:
        go = release(sim)
        async with asking(proxy, path, **more) as client:
            await behind_heartbeat(proxy, EVENTS[0], go)
            reply = await client.read()
            assert reply.clean
            assert b"heartbeat" not in reply.body
        assert {line["heartbeats"] for line in [await proxy.log.request(n) for n in (1, 2)]} == {0, 1}


async def test_who_waits_in_the_queue_gets_them_and_its_refusal_as_a_record() -> None:
    chain = ["logging", EVERY, {"queue": {"wait": "1500ms"}}]
    async with Ollama() as sim, running({"name": "b1", "url": sim.url, "slots": 1}, middleware=chain) as proxy:
        go = release(sim)
        async with asking(proxy, "/api/chat") as first:
            await sim.wait_for(lambda: sim.counters.requests == 1)
            reply = await behind_heartbeat(proxy, EVENTS[0], lambda: None)
            assert not reply.clean
            error = json.loads(reply.chunks[-1].removeprefix(b"data: "))["error"]
            line = await proxy.log.request()
            assert (line["status"], line["error_code"]) == (503, error["code"])
            assert (line["outcome"], line["heartbeats"], line["attempts"]) == ("timed_out", 1, 0)
            go()
            assert (await first.read()).clean


@pytest.mark.parametrize("path", EVENTS)
async def test_a_missing_model_becomes_a_record(path: str) -> None:
    async with Ollama() as sim, running(sim.url, middleware=CHAIN) as proxy:
        plain = await ask(proxy.address, "POST", path, ask_for(path, model="none"))
        reply = await behind_heartbeat(proxy, path, release(sim), model="none")
        assert not reply.clean
        (record,) = reply.chunks
        name = b"event: error\n" if path == "/v1/messages" else b""
        said, told = json.loads(record.removeprefix(name + b"data: ")), json.loads(plain.body)
        assert said["error"]["message"] == told["error"]["message"]
        lines = [await proxy.log.request(number) for number in (1, 2)]
        assert [(line["status"], line["outcome"]) for line in lines] == [(plain.status, lines[0]["outcome"])] * 2


async def test_a_lost_backend_is_still_replaced() -> None:
    """Nothing of an answer has gone out: the commit point is the backend's first byte, not the heartbeat."""
    async with Ollama() as sim, Ollama() as other, running(sim.url, other.url, middleware=CHAIN) as proxy:
        hosts = {sim: sim.fault("stall"), other: other.fault("stall")}

        def kill() -> None:
            struck = next(host for host in hosts if host.counters.requests)
            (well,) = hosts.keys() - {struck}
            hosts[well].release()
            struck.drop()

        reply = await behind_heartbeat(proxy, EVENTS[0], kill)
        assert reply.clean
        line = await proxy.log.request()
        assert (line["outcome"], line["attempts"], line["heartbeats"]) == ("completed", 2, 1)


async def test_a_dead_backend_becomes_a_record_and_its_status_is_in_the_log() -> None:
    async with Ollama() as sim, running(sim.url, middleware=["logging", "metrics", EVERY]) as proxy:
        release(sim)
        reply = await behind_heartbeat(proxy, "/v1/messages", lambda: drop(sim))
        assert not reply.clean
        assert reply.body.startswith(b'event: error\ndata: {"type":"error","error":{"type":"api_error"')
        line = await proxy.log.request()
        assert (line["status"], line["outcome"]) == (502, "upstream_failed")
        assert line["error_code"] == "upstream_connection_lost"
        numbers = Numbers(proxy.app.metrics.now())
        assert numbers("ollama_proxy_requests_total", outcome="upstream_failed", status="5xx") == 1


async def test_a_client_that_leaves_stops_the_backend() -> None:
    async with Ollama() as sim, running(sim.url, middleware=CHAIN) as proxy:
        release(sim)
        async with asking(proxy, EVENTS[0]) as client:
            await client.read_head()
            assert await client.read_chunk() == HEARTBEAT
        line = await proxy.log.request()
        assert (line["outcome"], line["status"], line["heartbeats"]) == ("client_gone", None, 1)
        await sim.wait_for(lambda: sim.counters.active == 0)


async def test_an_operator_that_ends_it_is_told_to_the_client() -> None:
    async with Ollama() as sim, running(sim.url, middleware=CHAIN) as proxy:
        release(sim)

        def end() -> None:
            (exchange,) = proxy.app.frame.live
            assert proxy.app.frame.cancel(exchange.id, "enough")

        reply = await behind_heartbeat(proxy, EVENTS[0], end)
        assert (reply.clean, b"enough" in reply.body) == (False, True)
        assert (await proxy.log.request())["outcome"] == "cancelled"


async def test_http_1_0_gets_them_too() -> None:
    async with Ollama() as sim, running(sim.url, middleware=CHAIN) as proxy:
        go = release(sim)
        client = await Client.connect(proxy.address)
        await client.send(request("POST", EVENTS[0], ask_for(EVENTS[0])).replace(b" HTTP/1.1", b" HTTP/1.0", 1))
        reply = await client.read_head()
        assert "transfer-encoding" not in reply.headers
        assert await client.reader.readexactly(len(HEARTBEAT)) == HEARTBEAT
        go()
        async with asyncio.timeout(10):
            assert (await client.reader.read(-1)).endswith(b"data: [DONE]\n\n")
        await client.close()


async def test_the_short_way_is_taken_behind_a_heartbeat() -> None:
    async with Ollama() as sim, running(sim.url, middleware=CHAIN) as proxy:
        go = release(sim)
        seen: list[object] = []

        def look() -> None:
            (exchange,) = proxy.app.frame.live
            seen.append(exchange.shortcut)
            go()

        assert (await behind_heartbeat(proxy, EVENTS[0], look)).clean
        assert seen[0] is not None


async def test_sdks_skip_them() -> None:
    async with Ollama() as sim, running(sim.url, middleware=CHAIN) as proxy:
        go = release(sim)
        async with (
            openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="none") as one,
            anthropic.AsyncAnthropic(base_url=proxy.url, api_key="none") as two,
        ):

            async def chat() -> str:
                stream = await one.chat.completions.create(model="llama3.2", messages=SAID, stream=True)
                return "".join([part.choices[0].delta.content or "" async for part in stream])

            async def respond() -> str:
                stream = await one.responses.create(model="llama3.2", input="hi", stream=True)
                return "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])

            async def message() -> str:
                async with two.messages.stream(model="llama3.2", max_tokens=9, messages=SAID) as stream:
                    return "".join([text async for text in stream.text_stream])

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(use()) for use in (chat, respond, message)]
                await sim.wait_for(lambda: sim.counters.requests == len(tasks))
                await behind_heartbeat(proxy, EVENTS[1], go)  # it came last, so the others have theirs
            assert all(task.result() for task in tasks)
        lines = [await proxy.log.request(number) for number in range(1, 5)]
        assert all(line["heartbeats"] and line["outcome"] == "completed" for line in lines)


async def test_sdks_raise_the_error_behind_them() -> None:
    async with Ollama() as sim, running(sim.url, middleware=CHAIN) as proxy:
        go = release(sim)
        async with (
            openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="none", max_retries=0) as one,
            anthropic.AsyncAnthropic(base_url=proxy.url, api_key="none", max_retries=0) as two,
        ):

            async def chat() -> None:
                stream = await one.chat.completions.create(model="none", messages=SAID, stream=True)
                with pytest.raises(openai.APIError, match="not found"):
                    [part async for part in stream]

            async def message() -> None:
                stream = await two.messages.create(model="none", max_tokens=9, messages=SAID, stream=True)
                with pytest.raises(anthropic.APIStatusError, match="not found"):
                    [part async for part in stream]

            async with asyncio.TaskGroup() as group:
                group.create_task(chat())
                group.create_task(message())
                await sim.wait_for(lambda: sim.counters.requests == 2)
                await behind_heartbeat(proxy, EVENTS[1], go)
