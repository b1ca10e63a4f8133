import asyncio
import json
from typing import Any

import anthropic
import pytest

from proxy.simulator import Ollama
from tests.proxy.simulator.client import ask
from tests.proxy.simulator.conftest import Clients

ASK: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]
TOOL: Any = {"name": "f", "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}}}


async def test_events_in_their_order() -> None:
    async with Ollama(thinking_tokens=1) as sim:
        body = {"model": "qwen3", "messages": ASK, "max_tokens": 3, "stream": True}
        answer = await ask(sim, "POST", "/v1/messages", body)
        assert answer.headers["content-type"] == "text/event-stream"
        names, datas = [], []
        for chunk in answer.chunks:
            name, data = chunk.removesuffix(b"\n\n").split(b"\n")
            names.append(name.removeprefix(b"event: ").decode())
            datas.append(json.loads(data.removeprefix(b"data: ")))
        assert names == [
            "message_start", "content_block_start", "content_block_delta", "content_block_stop",
            "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
            "message_delta", "message_stop",
        ]  # fmt: skip
        assert [data["type"] for data in datas] == names
        assert [data.get("index") for data in datas[1:8]] == [0, 0, 0, 1, 1, 1, 1]
        assert datas[0]["message"]["usage"] == {"input_tokens": 7, "output_tokens": 0}
        assert datas[-2]["usage"] == {"input_tokens": 7, "output_tokens": 3}
        assert datas[-2]["delta"] == {"stop_reason": "max_tokens"}


async def test_an_error_in_mid_stream_is_lost() -> None:
    async with Ollama() as sim:
        sim.fault("error", after=1)
        answer = await ask(
            sim, "POST", "/v1/messages", {"model": "llama3.2", "messages": ASK, "max_tokens": 3, "stream": True}
        )
        assert (len(answer.chunks), answer.end) == (3, "clean")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": ""}, "model is required"),
        ({"messages": []}, "messages is required"),
        ({"max_tokens": 0}, "max_tokens is required and must be positive"),
        ({"stop_sequences": "e"},
         "json: cannot unmarshal string into Go struct field MessagesRequest.stop_sequences of type []string"),
        ({"stop_sequences": [5]},
         "json: cannot unmarshal number into Go struct field MessagesRequest.stop_sequences of type string"),
        ({"temperature": "hot"},
         "json: cannot unmarshal string into Go struct field MessagesRequest.temperature of type float64"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}]},
         "invalid image source type. Only base64 images are supported."),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "%"}}]}]},
         "invalid base64 image data: illegal base64 data"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use"}]}]},
         "tool_use block missing required 'id' field"),
    ],
)  # fmt: skip
async def test_what_is_refused(change: dict[str, Any], message: str) -> None:
    async with Ollama() as sim:
        body = {"model": "llama3.2", "messages": ASK, "max_tokens": 3, **change}
        answer = await ask(sim, "POST", "/v1/messages", body)
        assert answer.status == 400
        assert answer.json()["error"] == {"type": "invalid_request_error", "message": message}
        assert answer.json()["request_id"].startswith("req_")


async def test_thinking_is_forgiven_to_a_model_that_cannot() -> None:
    async with Ollama() as sim:
        body = {
            "model": "llama3.2",
            "messages": ASK,
            "max_tokens": 3,
            "thinking": {"type": "enabled", "budget_tokens": 9},
        }
        assert (await ask(sim, "POST", "/v1/messages", body)).json()["content"][0]["type"] == "text"
        body = {"model": "qwen3", "messages": ASK, "max_tokens": 9, "thinking": {"type": "disabled"}}
        assert [block["type"] for block in (await ask(sim, "POST", "/v1/messages", body)).json()["content"]] == ["text"]


async def test_the_official_client_async(clients: Clients) -> None:
    async with Ollama() as sim:
        client = clients.anthropic(sim)
        async with client.messages.stream(model="qwen3", max_tokens=12, messages=ASK) as stream:
            text = "".join([part async for part in stream.text_stream])
            final = await stream.get_final_message()
        whole = await client.messages.create(model="qwen3", max_tokens=12, messages=ASK)
        assert (
            [block.type for block in final.content] == [block.type for block in whole.content] == ["thinking", "text"]
        )
        assert whole.content[1].type == "text"
        assert whole.content[1].text == text
        assert (whole.stop_reason, whole.usage.output_tokens) == ("max_tokens", 12)
        async with client.messages.stream(model="llama3.2", max_tokens=99, messages=ASK, tools=[TOOL]) as stream:
            called = await stream.get_final_message()
        assert called.stop_reason == "tool_use"
        assert called.content[0].type == "tool_use"
        results: list[Any] = [
            *ASK,
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": called.content[0].id, "name": "f", "input": {}}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": called.content[0].id, "content": "7"}]},
        ]
        answered = await client.messages.create(
            model="llama3.2",
            max_tokens=5,
            messages=results,
            tools=[TOOL],
            system=[{"type": "text", "text": "be brief"}],
        )
        assert answered.content[0].type == "text"
        with pytest.raises(anthropic.NotFoundError, match="model 'nope' not found"):
            await client.messages.create(model="nope", max_tokens=5, messages=ASK)


async def test_the_official_client_sync() -> None:
    def talk(url: str) -> int:
        with (
            anthropic.Anthropic(base_url=url, api_key="ollama", max_retries=0) as client,
            client.messages.stream(model="llama3.2", max_tokens=7, messages=ASK) as stream,
        ):
            return len(list(stream.text_stream))

    async with Ollama() as sim:
        assert await asyncio.to_thread(talk, sim.url) == 7
