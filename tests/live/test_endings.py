"""Cut answers: no client takes one for a success, and the log says what happened."""

import asyncio
from typing import Any

import ollama
import openai
import orjson
import pytest

from proxy.simulator import Ollama
from tests.support.proxy import running
from tests.support.wire import ask

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": True}
IDLE = {"timeouts": {"idle": "200ms", "manage": "200ms"}}

CUTS: list[Any] = ["reset", "close", "truncate", "end", "stall"]


@pytest.mark.parametrize("kind", CUTS)
@pytest.mark.parametrize(
    ("path", "last_word"),
    [
        ("/api/chat", b'{"error":"'),
        ("/api/generate", b'{"error":"'),
        ("/api/pull", b'{"error":"'),
        ("/v1/chat/completions", b'data: {"error":{'),
        ("/v1/completions", b'data: {"error":{'),
        ("/v1/responses", b'data: {"error":{'),
        ("/v1/messages", b"event: error\ndata: {"),
    ],
)
async def test_a_cut_stream_never_ends_cleanly(kind: Any, path: str, last_word: bytes) -> None:
    async with Ollama() as sim, running(sim.url, pool=IDLE) as proxy:
        sim.fault(kind, route=path, after=4)
        body = {**CHAT, "prompt": "hi", "input": "hi", "max_tokens": 30}
        reply = await ask(proxy.address, "POST", path, body)
        assert reply.status == 200
        assert not reply.clean
        assert len(reply.chunks) == 5
        assert reply.chunks[-1].startswith(last_word)
        orjson.loads(reply.chunks[-1][reply.chunks[-1].index(b"{") :])
        line = await proxy.log.request()
        assert line["outcome"] == "upstream_truncated"
        if kind == "stall":
            assert line["error_code"] == ("manage_timeout" if path == "/api/pull" else "idle_timeout")
        assert sim.counters.requests == 1


@pytest.mark.parametrize("kind", CUTS)
async def test_ollama_python_raises(kind: Any) -> None:
    async with Ollama() as sim, running(sim.url, pool=IDLE) as proxy:
        sim.fault(kind, route="/api/chat", after=4)
        client = ollama.AsyncClient(proxy.url)
        parts = []
        stream = await client.chat("llama3.2", CHAT["messages"], stream=True)
        with pytest.raises(ollama.ResponseError):  # noqa: PT012 (the loop is what raises)
            async for part in stream:
                parts.append(part)
        assert len(parts) == 4
        assert not any(part.done for part in parts)
        await client._client.aclose()


@pytest.mark.parametrize("kind", CUTS)
async def test_openai_raises(kind: Any) -> None:
    async with Ollama() as sim, running(sim.url, pool=IDLE) as proxy:
        sim.fault(kind, route="/v1/chat/completions", after=4)
        async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="none", max_retries=0) as client:
            stream = await client.chat.completions.create(model="llama3.2", messages=CHAT["messages"], stream=True)
            with pytest.raises(openai.APIError):
                async for _ in stream:
                    pass


@pytest.mark.parametrize("delta", [10, 1000])
async def test_a_body_shorter_than_its_length_is_not_completed(delta: int) -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        sim.fault("length", route="/api/generate", delta=delta)
        reply = await ask(proxy.address, "POST", "/api/generate", {"model": "llama3.2", "prompt": "x", "stream": False})
        assert reply.status == 200
        assert not reply.clean
        assert (await proxy.log.request())["outcome"] == "upstream_truncated"


async def test_an_error_line_of_the_backend_is_an_honest_end() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        sim.fault("error", route="/api/chat", after=3, message="the runner died")
        reply = await ask(proxy.address, "POST", "/api/chat", CHAT)
        assert reply.clean
        assert b"the runner died" in reply.chunks[-1]
        assert len(reply.chunks) == 4


async def test_the_total_timer_cuts_and_names_itself() -> None:
    async with Ollama(token_delay=0.02, tokens=1000) as sim:
        async with running(sim.url, pool={"timeouts": {"total": "300ms"}}) as proxy:
            reply = await ask(proxy.address, "POST", "/api/chat", CHAT)
            assert not reply.clean
            assert "in all" in orjson.loads(reply.chunks[-1])["error"]
            line = await proxy.log.request()
            assert (line["outcome"], line["error_code"]) == ("upstream_truncated", "total_timeout")
            await sim.wait_for(lambda: sim.counters.active == 0)


async def test_the_timers_before_the_first_byte_answer_504_and_name_themselves() -> None:
    """`load` for a model that has yet to be loaded, `first_byte` for one that is in memory."""
    timeouts = {"load": "150ms", "first_byte": "100ms"}
    async with Ollama() as sim, running(sim.url, pool={"timeouts": timeouts}) as proxy:
        stall = sim.fault("stall", route="/api/chat", times=1)
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).status == 504
        stall.release()
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).status == 200
        sim.fault("stall", route="/api/chat", times=None)
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).status == 504
        lines = [(line["outcome"], line["error_code"]) for line in proxy.log.requests]
        assert lines == [("timed_out", "load_timeout"), ("completed", None), ("timed_out", "first_byte_timeout")]
        sim.clear()


async def test_load_and_unload_answer_one_object_and_complete() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        reply = await ask(proxy.address, "POST", "/api/generate", {"model": "llama3.2"})
        assert orjson.loads(reply.body)["done_reason"] == "load"
        assert reply.clean
        assert (await proxy.log.request())["outcome"] == "completed"


async def test_a_client_that_leaves_behind_the_terminator_completed() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        reader, writer = await asyncio.open_connection(*proxy.address)
        body = orjson.dumps(CHAT)
        writer.write(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await reader.readuntil(b'"done":true')
        writer.close()
        line = await proxy.log.request()
        assert line["outcome"] == "completed"
        assert line["tokens_source"] == "reported"
