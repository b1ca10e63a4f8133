import asyncio
import json
from typing import Any

import openai
import pytest

from proxy.simulator import Ollama
from tests.proxy.simulator.client import ask
from tests.proxy.simulator.conftest import Clients

ASK: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]
TOOL: Any = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"n": {"type": "integer"}}}}}
PNG = "data:image/png;base64,iVBORw0KGgo="


def events(body: bytes) -> list[Any]:
    assert body.endswith(b"data: [DONE]\n\n")
    return [json.loads(event.removeprefix(b"data: ")) for event in body.split(b"\n\n")[:-2]]


async def test_chat_events() -> None:
    async with Ollama() as sim:
        body = {"model": "llama3.2", "messages": ASK, "stream": True, "max_tokens": 2}
        answer = await ask(sim, "POST", "/v1/chat/completions", body)
        assert answer.headers["content-type"] == "text/event-stream"
        first, second, last = events(answer.body)
        assert list(first) == ["id", "object", "created", "model", "system_fingerprint", "choices"]
        assert list(first["choices"][0]["delta"]) == ["role", "content"]
        assert list(second["choices"][0]["delta"]) == ["content"]
        assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length"}]
        assert len(answer.chunks) == 3
        assert answer.chunks[-1].endswith(b"data: [DONE]\n\n")


async def test_usage_comes_when_it_was_asked_for() -> None:
    async with Ollama() as sim:
        body = {"model": "llama3.2", "messages": ASK, "stream": True, "stream_options": {"include_usage": True}}
        answer = await ask(sim, "POST", "/v1/chat/completions", body)
        *_, last = events(answer.body)
        assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 24)
        assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + 24
        assert answer.chunks[-1].count(b"data: ") == 3


async def test_completion_events_have_a_usage_of_zeros_until_the_end() -> None:
    async with Ollama() as sim:
        body = {"model": "llama3.2", "prompt": "hi", "stream": True, "stream_options": {"include_usage": True}}
        *tokens, last = events((await ask(sim, "POST", "/v1/completions", body)).body)
        assert {token["usage"]["total_tokens"] for token in tokens} == {0}
        assert last["usage"]["completion_tokens"] == 24


async def test_an_error_in_mid_stream_is_lost() -> None:
    async with Ollama() as sim:
        sim.fault("error", after=1)
        body = {"model": "llama3.2", "messages": ASK, "stream": True}
        answer = await ask(sim, "POST", "/v1/chat/completions", body)
        assert len(answer.chunks) == 2
        lost = json.loads(answer.chunks[1].removeprefix(b"data: "))
        assert (lost["model"], lost["choices"][0]["delta"]) == ("", {"content": ""})


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("chat/completions", {"model": "llama3.2", "messages": []}, "[] is too short - 'messages'"),
        ("chat/completions", {"model": "llama3.2", "messages": [{"role": "user"}]},
         "invalid message content type: <nil>"),
        ("chat/completions", {"model": "llama3.2", "messages": [{"role": "user", "content": [{"type": "x"}]}]},
         "invalid message format"),
        ("chat/completions", {"model": "llama3.2", "messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]}, "invalid image input"),
        ("chat/completions", {"model": "llama3.2", "messages": ASK, "reasoning_effort": "very"},
         "invalid reasoning value: 'very' (must be \"high\", \"medium\", \"low\", \"max\", or \"none\")"),
        ("chat/completions", {"model": "llama3.2", "messages": ASK, "temperature": "hot"},
         "json: cannot unmarshal string into Go struct field ChatCompletionRequest.temperature of type float64"),
        ("chat/completions", {"model": "llama3.2", "messages": ASK, "reasoning": 5},
         "json: cannot unmarshal number into Go struct field ChatCompletionRequest.reasoning of type openai.Reasoning"),
        ("chat/completions", {"model": "llama3.2", "messages": [{"role": 5}]},
         "json: cannot unmarshal number into Go struct field ChatCompletionRequest.messages.role of type string"),
        ("chat/completions", {"model": "llama3.2", "messages": [{"role": "user", "content": 5}]},
         "invalid message content type: float64"),
        ("completions", {"model": "llama3.2", "prompt": "x", "stop": [5]}, "invalid type for 'stop' field: float64"),
        ("completions", {"model": "llama3.2", "prompt": "x", "top_p": "x"},
         "json: cannot unmarshal string into Go struct field CompletionRequest.top_p of type float32"),
        ("completions", b"[]", "json: cannot unmarshal array into Go value of type openai.CompletionRequest"),
        ("completions", b"", "EOF"),
        ("chat/completions", {"model": "", "messages": ASK}, "model is required"),
    ],
)  # fmt: skip
async def test_what_is_refused(path: str, body: Any, message: str) -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", f"/v1/{path}", body)
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        assert (answer.status, answer.json()) == (400, {"error": error})


async def test_images_and_reasoning() -> None:
    async with Ollama("qwen3-vl") as sim:
        content = [{"type": "text", "text": "what is this"}, {"type": "image_url", "image_url": {"url": PNG}}]
        body = {
            "model": "qwen3-vl",
            "messages": [{"role": "user", "content": content}],
            "reasoning": {"effort": "none"},
        }
        answer = (await ask(sim, "POST", "/v1/chat/completions", body)).json()
        assert answer["usage"]["prompt_tokens"] > 256
        assert "reasoning" not in answer["choices"][0]["message"]


async def test_the_official_client_async(clients: Clients) -> None:
    async with Ollama() as sim:
        client = clients.openai(sim)
        stream = await client.chat.completions.create(model="qwen3", messages=ASK, stream=True, max_tokens=9)
        parts = [part async for part in stream]
        assert [part.choices[0].finish_reason for part in parts] == [None] * 9 + ["length"]
        assert [part.choices[0].delta.role for part in parts][:2] == ["assistant", None]
        whole = await client.chat.completions.create(model="qwen3", messages=ASK, max_tokens=9)
        texts = "".join(part.choices[0].delta.content or "" for part in parts)
        assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (texts, "length")
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 9
        legacy = await client.completions.create(model="llama3.2", prompt="hi", stream=True)
        assert "".join([part.choices[0].text async for part in legacy])
        assert (await client.completions.create(model="llama3.2", prompt="hi")).choices[0].finish_reason == "stop"
        called = await client.chat.completions.create(model="llama3.2", messages=ASK, tools=[TOOL])
        assert called.choices[0].finish_reason == "tool_calls"
        async with client.chat.completions.stream(model="llama3.2", messages=ASK, tools=[TOOL]) as calling:
            final = await calling.get_final_completion()
        assert final.choices[0].message.tool_calls
        assert final.choices[0].message.tool_calls[0].function.name == "f"
        with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
            await client.chat.completions.create(model="nope", messages=ASK)
        sim.fault("busy")
        with pytest.raises(openai.InternalServerError, match="server busy"):
            await client.chat.completions.create(model="llama3.2", messages=ASK)


async def test_the_official_client_sync() -> None:
    def talk(url: str) -> tuple[int, str]:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="ollama", max_retries=0) as client:
            stream = client.chat.completions.create(model="llama3.2", messages=ASK, stream=True)
            form: Any = {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"properties": {"a": {"const": 7}}}},
            }
            formed = client.chat.completions.create(model="llama3.2", messages=ASK, response_format=form)
            return len(list(stream)), formed.choices[0].message.content or ""

    async with Ollama() as sim:
        assert await asyncio.to_thread(talk, sim.url) == (25, '{"a": 7}')
