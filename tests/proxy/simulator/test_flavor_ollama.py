import asyncio
import base64
import json
import re
from typing import Any

import ollama
import pytest

from proxy.simulator import Ollama
from tests.proxy.simulator.client import ask, chat
from tests.proxy.simulator.conftest import Clients

ASK = [{"role": "user", "content": "Why is the sky blue?"}]
METRICS = [
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
]


async def test_chat_records() -> None:
    async with Ollama() as sim:
        *tokens, last = (await ask(sim, "POST", "/api/chat", chat(3))).lines()
        assert len(tokens) == 3
        for token in tokens:
            assert list(token) == ["model", "created_at", "message", "done"]
            assert (token["model"], token["message"]["role"], token["done"]) == ("llama3.2", "assistant", False)
        assert list(last) == ["model", "created_at", "message", "done", "done_reason", *METRICS]
        assert (last["message"], last["done_reason"]) == ({"role": "assistant", "content": ""}, "length")
        assert all(isinstance(last[name], int) and last[name] > 0 for name in METRICS)


async def test_generate_ends_with_a_context_before_the_counts() -> None:
    async with Ollama(context=60_000) as sim:
        answer = await ask(sim, "POST", "/api/generate", {"model": "llama3.2", "prompt": "x"})
        last = answer.lines()[-1]
        assert list(last) == ["model", "created_at", "response", "done", "done_reason", "context", *METRICS]
        assert len(last["context"]) == 60_000
        assert len(answer.chunks[-1]) > 300_000
        assert (last["done_reason"], last["eval_count"]) == ("stop", 24)


async def test_the_model_is_named_as_it_was_asked_for() -> None:
    async with Ollama() as sim:
        lines = (await ask(sim, "POST", "/api/chat", chat(1, model="library/LLAMA3.2"))).lines()
        assert {line["model"] for line in lines} == {"library/LLAMA3.2"}


async def test_records_are_go_s_json() -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", "/api/chat", chat(2000))
        assert b"<" not in answer.body
        assert rb"\u003c" in answer.body
        assert "東京".encode() in answer.body
        assert re.search(rb'"created_at":"[^"]+Z"', answer.body)


async def test_thinking() -> None:
    async with Ollama(thinking_tokens=2) as sim:
        lines = (await ask(sim, "POST", "/api/chat", chat(4, model="qwen3"))).lines()
        assert [bool(line["message"].get("thinking")) for line in lines] == [True, True, False, False, False]
        whole = (await ask(sim, "POST", "/api/generate", {"model": "qwen3", "prompt": "x", "stream": False})).json()
        assert whole["thinking"]
        assert whole["response"]


async def test_tool_calls() -> None:
    tool = {
        "type": "function",
        "function": {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}},
    }
    async with Ollama() as sim:
        first, last = (await ask(sim, "POST", "/api/chat", chat(tools=[tool], options={}))).lines()
        (call,) = first["message"]["tool_calls"]
        assert (call["function"]["name"], list(call["function"]["arguments"])) == ("weather", ["city"])
        assert last["done"]
        messages = [*ASK, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "rain"}]
        lines = (await ask(sim, "POST", "/api/chat", chat(3, tools=[tool], messages=messages))).lines()
        assert all("tool_calls" not in line["message"] for line in lines)


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/api/chat", b"", 400, "missing request body"),
        ("/api/chat", b"{", 400, "unexpected EOF"),
        ("/api/chat", {"messages": ASK}, 400, "model is required"),
        ("/api/generate", {"prompt": "x"}, 404, "model '' not found"),
        ("/api/chat", chat(keep_alive="soon"), 400, 'time: invalid duration "soon"'),
        ("/api/chat", chat(top_logprobs=21), 400, "top_logprobs must be between 0 and 20"),
        ("/api/chat", chat(messages=[{"role": "user", "content": "", "images": ["%"]}]), 400,
         "illegal base64 data at input byte 0"),
        ("/api/generate", {"model": "llama3.2", "prompt": "x", "raw": True, "system": "y"}, 400,
         "raw mode does not support template, system, or context"),
        ("/api/chat", chat(options={"num_predict": "3"}), 500, 'option "num_predict" must be of type integer'),
        ("/api/chat", chat(messages=[{"role": "user", "content": [1]}]), 400,
         "json: cannot unmarshal array into Go struct field Alias.content of type string"),
        ("/api/chat", chat(messages=[5]), 400, "json: cannot unmarshal number into Go value of type api.Alias"),
        ("/api/chat", chat(messages="x"), 400,
         "json: cannot unmarshal string into Go struct field ChatRequest.messages of type []api.Message"),
        ("/api/chat", chat(tools={}), 400,
         "json: cannot unmarshal object into Go struct field ChatRequest.tools of type api.Tools"),
        ("/api/chat", chat(messages=[{"role": "user", "images": [5]}]), 400,
         "json: cannot unmarshal number into Go struct field Alias.images of type api.ImageData"),
        ("/api/chat", chat(messages=[{"role": "user", "images": ["abc!"]}]), 400,
         "illegal base64 data at input byte 3"),
        ("/api/generate", {"model": "llama3.2", "prompt": "x", "context": ["y"]}, 400,
         "json: cannot unmarshal string into Go struct field GenerateRequest.context of type int"),
        ("/api/chat", chat(think=5), 400,
         'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
        ("/api/chat", chat(keep_alive=True), 400, "Unsupported type: 'bool'"),
        ("/api/chat", chat(keep_alive=[5]), 400, "Unsupported type: '[]interface {}'"),
        ("/api/chat", chat(keep_alive="5"), 400, 'time: missing unit in duration "5"'),
        ("/api/chat", chat(keep_alive="5x"), 400, 'time: unknown unit "x" in duration "5x"'),
        ("/api/chat", chat(options={"stop": "e"}), 500, 'option "stop" must be of type array'),
        ("/api/chat", chat(options={"stop": [1]}), 500, 'option "stop" must be of an array of strings'),
        ("/api/chat", chat(model="nope", options={"num_predict": "3"}), 404, "model 'nope' not found"),
        ("/api/chat", chat(format=5), 500,
         'invalid format: "5"; expected "json" or a valid JSON Schema object'),
        ("/api/chat", chat(format=[1]), 500,
         'invalid format: "[1]"; expected "json" or a valid JSON Schema object'),
    ],
)  # fmt: skip
async def test_what_is_refused(path: str, body: Any, status: int, error: str) -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", path, body)
        assert (answer.status, answer.json()) == (status, {"error": error})


async def test_images_are_read() -> None:
    image = base64.b64encode(b"\x89PNG").decode()
    async with Ollama("llava") as sim:
        body = {"model": "llava", "prompt": "what is this", "images": [image], "stream": False}
        assert (await ask(sim, "POST", "/api/generate", body)).json()["prompt_eval_count"] == 259


async def test_the_official_client_async(clients: Clients) -> None:
    async with Ollama() as sim:
        client = clients.ollama(sim)
        parts = [part async for part in await client.chat("llama3.2", ASK, stream=True, options={"num_predict": 5})]
        assert [part.done for part in parts] == [False] * 5 + [True]
        assert (parts[-1].done_reason, parts[-1].eval_count) == ("length", 5)
        whole = await client.chat("llama3.2", ASK, options={"num_predict": 5})
        assert whole.message.content == "".join(part.message.content or "" for part in parts)
        texts = [part.response or "" async for part in await client.generate("llama3.2", "hi", stream=True)]
        assert "".join(texts) == (await client.generate("llama3.2", "hi")).response
        thought = await client.chat("qwen3", ASK, think=True)
        assert thought.message.thinking
        with pytest.raises(ollama.ResponseError, match=r"model 'nope' not found \(status code: 404\)"):
            await client.chat("nope", ASK)
        sim.fault("error", after=2, message="it broke")
        with pytest.raises(ollama.ResponseError, match="it broke"):
            [part async for part in await client.chat("llama3.2", ASK, stream=True)]


async def test_the_official_client_sync() -> None:
    def weather(city: str) -> str:
        """Tell the weather.

        Args:
            city: where
        """
        return city

    def talk(url: str) -> tuple[int, Any, str]:
        client = ollama.Client(url)
        try:
            parts = list(client.generate("llama3.2", "hi", stream=True))
            called = client.chat("llama3.2", ASK, tools=[weather])
            schema = {"type": "object", "properties": {"age": {"type": "integer"}}}
            formed = client.chat("llama3.2", ASK, format=schema)
            return len(parts), called.message.tool_calls, formed.message.content or ""
        finally:
            client.close()  # type: ignore[no-untyped-call]  # has no annotations

    async with Ollama() as sim:
        count, calls, formed = await asyncio.to_thread(talk, sim.url)
        assert (count, calls[0].function.name, set(calls[0].function.arguments)) == (25, "weather", {"city"})
        assert isinstance(json.loads(formed)["age"], int)
