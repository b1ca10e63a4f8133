"""`streaming: {include_usage: add}`: counts are exact, and clients that did not ask see nothing of it."""

import json
import re
from typing import Any

import openai
import pytest

from proxy.simulator import Ollama
from tests.support.metrics import Numbers
from tests.support.pieces import ask_for, chunked
from tests.support.proxy import Running, running
from tests.support.wire import Reply, ask

PATHS = ["/v1/chat/completions", "/v1/completions"]
ADD: list[Any] = ["logging", "metrics", {"streaming": {"include_usage": "add"}}, "retry"]
KEEP: list[Any] = ["logging", "metrics", "streaming", "retry"]
WRAPPED = f"{__name__}:Wrapping"


class Wrapping:
    """A plugin that wraps `send`, so that every chunk takes the long way."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def pass_on(message: Any) -> None:
            await send(message)

        await self.app(scope, receive, pass_on)


def alike(chunks: list[bytes]) -> list[bytes]:
    return [re.sub(rb'("id":")[^"]*|("created":)\d+', rb"\1\2#", chunk) for chunk in chunks]


async def line_of(proxy: Running, number: int = 1) -> dict[str, Any]:
    return await proxy.log.request(number)


@pytest.mark.parametrize("above", [[], [{"use": WRAPPED}]])
@pytest.mark.parametrize("path", PATHS)
async def test_clients_see_what_they_would_have_seen(path: str, above: list[Any]) -> None:
    async with Ollama() as sim, running(sim.url, middleware=KEEP) as plain:
        async with running(sim.url, middleware=[*above, *ADD]) as proxy:
            usual = await ask(plain.address, "POST", path, ask_for(path))
            reply = await ask(proxy.address, "POST", path, ask_for(path))
            counted = await ask(plain.address, "POST", path, ask_for(path, stream_options={"include_usage": True}))
            assert (reply.status, reply.clean) == (200, True)
            assert alike(reply.chunks) == alike(usual.chunks)
            assert b'"usage"' not in reply.body
            said = json.loads(counted.body.rpartition(b'"usage":')[2].partition(b"}")[0] + b"}")
            line, estimated = await line_of(proxy), await line_of(plain)
            assert (line["tokens_in"], line["tokens_out"]) == (said["prompt_tokens"], said["completion_tokens"])
            assert (line["tokens_source"], estimated["tokens_source"]) == ("reported", "estimated")
            assert (line["outcome"], line["terminated"], line["chunks"]) == ("completed", True, len(reply.chunks))
            numbers = Numbers(proxy.app.metrics.now())
            assert numbers("gen_ai_client_token_usage_sum", gen_ai_token_type="output") == said["completion_tokens"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (None, {"include_usage": True}),
        ({"include_usage": False}, {"include_usage": True}),
        ({"include_usage": None, "other": 1}, {"include_usage": True, "other": 1}),
        ({}, {"include_usage": True}),
        ({"include_usage": True}, {"include_usage": True}),
        ({"Include_Usage": True}, {"Include_Usage": True}),
        ({"include_usage": "yes"}, {"include_usage": "yes"}),
        ({"include_usage": 0}, {"include_usage": 0}),
        ("text", "text"),
    ],
)
async def test_only_the_one_member_of_the_request_changes(path: str, options: Any, sent: Any) -> None:
    body = ask_for(path, stream_options=options)
    async with Ollama() as sim, running(sim.url, middleware=ADD) as proxy:
        await ask(proxy.address, "POST", path, body)
        assert json.loads(sim.last.body) == body | {"stream_options": sent}
        if sent == options:
            assert sim.last.body == json.dumps(body).encode()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        *((path, ask_for(path, stream=False)) for path in PATHS),
        *((path, {"model": "llama3.2", "messages": [], "stream": "yes"}) for path in PATHS),
        ("/api/chat", ask_for("/api/chat")),
        ("/v1/messages", ask_for("/v1/messages")),
        ("/v1/responses", ask_for("/v1/responses")),
        ("/v1/embeddings", {"model": "nomic-embed-text", "input": "x"}),
    ],
)
async def test_other_requests_pass_as_they_came(path: str, body: dict[str, Any]) -> None:
    async with Ollama() as sim, running(sim.url, middleware=ADD) as proxy:
        await ask(proxy.address, "POST", path, body)
        assert sim.last.body == json.dumps(body).encode()


async def test_a_client_that_asked_gets_the_counts() -> None:
    async with Ollama() as sim, running(sim.url, middleware=ADD) as proxy:
        reply = await ask(proxy.address, "POST", PATHS[1], ask_for(PATHS[1], stream_options={"include_usage": True}))
        assert reply.body.count(b'"usage"') == len(reply.chunks) + 1


async def test_a_body_that_is_no_json_is_the_backends_to_refuse() -> None:
    async with Ollama() as sim, running(sim.url, middleware=ADD) as proxy:
        for body in (b'{"model":"llama3.2","stream":true,,}', b"[1]", b'{"a":1,"a":2}'):
            await ask(proxy.address, "POST", PATHS[0], body)
            assert sim.last.body == body


def stream_of(path: str, *records: dict[str, Any], clean: bool, last: bytes = b"") -> tuple[bytes, ...]:
    chunks = [b"data: " + json.dumps(record, separators=(",", ":")).encode() + b"\n\n" for record in records]
    return chunked("sse", [*chunks, *filter(None, [last])], clean=clean)


ZEROS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def piece(text: str) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "text": text, "finish_reason": None}], "usage": ZEROS}


async def get(sim: Ollama, proxy: Running, parts: tuple[bytes, ...], finish: Any = "keep") -> Reply:
    sim.fault("script", route=PATHS[1], parts=parts, finish=finish)
    return await ask(proxy.address, "POST", PATHS[1], ask_for(PATHS[1]))


@pytest.mark.parametrize("half", [b"", b'data: {"id":"c","choices":[],"usa'])
async def test_a_cut_stays_an_honest_cut(half: bytes) -> None:
    async with Ollama() as sim, running(sim.url, middleware=ADD) as proxy:
        parts = stream_of(PATHS[1], piece("a"), piece("b"), clean=False, last=half)
        reply = await get(sim, proxy, parts, "close")
        assert not reply.clean
        assert len(reply.chunks) == (2 if half else 3)
        assert (b'"error"' in reply.chunks[-1]) == (not half)
        assert b"usage" not in reply.body
        line = await line_of(proxy)
        assert (line["outcome"], line["tokens_source"]) == ("upstream_truncated", "estimated")


async def test_what_the_guard_ended_ends_cleanly_with_its_last_bytes() -> None:
    async with Ollama() as sim, running(sim.url, middleware=ADD) as proxy:
        reply = await get(sim, proxy, stream_of(PATHS[1], *[piece("a")] * 32, clean=True))
        assert (reply.clean, len(reply.chunks)) == (True, 32)
        line = await line_of(proxy)
        assert (line["outcome"], line["terminated"], line["tokens_out"]) == ("completed", False, 32)


async def test_zeros_before_an_error_are_no_count() -> None:
    """Ollama writes zeros into each event of a completion; an error record ends the stream before the real count."""
    error = {"error": {"message": "the runner died", "type": "api_error"}}
    async with Ollama() as sim, running(sim.url, middleware=ADD) as proxy:
        reply = await get(sim, proxy, stream_of(PATHS[1], piece("a"), piece("b"), error, clean=True))
        assert json.loads(reply.chunks[-1][6:]) == error
        line = await line_of(proxy)
        assert (line["tokens_source"], line["tokens_out"]) == ("estimated", 3)


async def test_a_short_answer_keeps_its_length() -> None:
    """Ollama answers a request without a prompt, which only loads the model, with a length."""
    body = (
        b"".join(
            b"data: " + json.dumps(record).encode() + b"\n\n" for record in (piece(""), {"choices": [], "usage": ZEROS})
        )
        + b"data: [DONE]\n\n"
    )
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with Ollama() as sim, running(sim.url, middleware=ADD) as proxy:
        reply = await get(sim, proxy, (head + body,))
        assert reply.clean
        assert reply.headers["content-length"] == str(len(reply.body))
        assert (reply.body.count(b"data:"), reply.body.count(b"usage")) == (2, 0)


async def test_a_budget_of_tokens_counts_exactly() -> None:
    chain = ["logging", {"rate_limit": {"tokens": "100000/minute"}}, {"streaming": {"include_usage": "add"}}]
    async with Ollama() as sim, running(sim.url, middleware=chain) as proxy:
        await ask(proxy.address, "POST", PATHS[0], ask_for(PATHS[0]))
        line = await line_of(proxy)
        reply = await ask(proxy.address, "POST", PATHS[0], ask_for(PATHS[0], max_tokens=1))
        reserved = len(sim.requests[-1].body) // 4 + 1
        left = int(reply.headers["x-ratelimit-remaining-tokens"])
        assert abs(100_000 - left - line["tokens_in"] - line["tokens_out"] - reserved) <= 20
        assert line["tokens_source"] == "reported"


async def test_the_sdk_sees_nothing_of_it() -> None:
    async with Ollama() as sim, running(sim.url, middleware=ADD) as proxy:
        async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="none") as client:
            said: Any = [{"role": "user", "content": "hi"}]
            stream = await client.chat.completions.create(model="llama3.2", messages=said, stream=True)
            parts = [part async for part in stream]
            assert all(part.choices and part.usage is None for part in parts)
            texts = await client.completions.create(model="llama3.2", prompt="hi", stream=True)
            assert all([part.choices and part.usage is None async for part in texts])
        assert [(await line_of(proxy, number))["tokens_source"] for number in (1, 2)] == ["reported"] * 2
