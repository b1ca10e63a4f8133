import asyncio
import json
from typing import Any

import openai
import pytest

from proxy.simulator import Ollama
from tests.proxy.simulator.client import ask
from tests.proxy.simulator.conftest import Clients

TOOL: Any = {"type": "function", "name": "f", "parameters": {"properties": {"n": {"type": "integer"}}}, "strict": False}
PNG = "data:image/png;base64,iVBORw0KGgo="


async def test_events_are_numbered_and_named() -> None:
    async with Ollama(thinking_tokens=1) as sim:
        body = {"model": "qwen3", "input": "hi", "stream": True, "max_output_tokens": 3}
        answer = await ask(sim, "POST", "/v1/responses", body)
        names, datas = [], []
        for chunk in answer.chunks:
            name, data = chunk.removesuffix(b"\n\n").split(b"\n")
            names.append(name.removeprefix(b"event: ").decode())
            datas.append(json.loads(data.removeprefix(b"data: ")))
        assert names == [
            "response.created", "response.in_progress", "response.output_item.added",
            "response.reasoning_summary_text.delta", "response.reasoning_summary_text.done",
            "response.output_item.done", "response.output_item.added", "response.content_part.added",
            "response.output_text.delta", "response.output_text.delta", "response.output_text.done",
            "response.content_part.done", "response.output_item.done", "response.completed",
        ]  # fmt: skip
        assert [data["type"] for data in datas] == names
        assert [data["sequence_number"] for data in datas] == list(range(len(names)))
        assert all(list(data) == sorted(data) for data in datas)
        response = datas[-1]["response"]
        assert (response["status"], response["usage"]["output_tokens"]) == ("completed", 3)
        assert [item["type"] for item in response["output"]] == ["reasoning", "message"]


async def test_conversations_are_read() -> None:
    async with Ollama("llava") as sim:
        items = [
            {"role": "user", "content": "hi"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "what is this"},
                                                             {"type": "input_image", "image_url": PNG}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "7"},
        ]  # fmt: skip
        body = {"model": "llava", "input": items, "instructions": "be brief", "tools": [TOOL]}
        answer = (await ask(sim, "POST", "/v1/responses", body)).json()
        assert answer["usage"]["input_tokens"] > 256
        assert (answer["output"][0]["type"], answer["instructions"]) == ("message", "be brief")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"input": 7}, "input must be a string or array"),
        ({"input": [{"type": "wish"}]}, 'input[0]: unknown input item type: "wish"'),
        ({"input": [{"role": "user", "content": [{"type": "x"}]}]}, "input[0]: content[0]: unknown content type"),
        ({"input": "x", "reasoning": {"effort": "very"}}, 'invalid reasoning value: "very"'),
    ],
)
async def test_what_is_refused(more: dict[str, Any], message: str) -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", "/v1/responses", {"model": "llama3.2", **more})
        assert (answer.status, answer.json()["error"]["message"]) == (400, message)


async def test_the_official_client_async(clients: Clients) -> None:
    async with Ollama() as sim:
        client = clients.openai(sim)
        whole = await client.responses.create(model="qwen3", input="hi", max_output_tokens=10)
        stream = await client.responses.create(model="qwen3", input="hi", max_output_tokens=10, stream=True)
        events = [event async for event in stream]
        assert events[-1].type == "response.completed"
        assert events[-1].response.output_text == whole.output_text
        called = await client.responses.create(model="llama3.2", input="hi", tools=[TOOL])
        assert called.output[0].type == "function_call"
        async with client.responses.stream(model="llama3.2", input="hi", tools=[TOOL]) as calling:
            final = await calling.get_final_response()
        assert final.output[0].type == "function_call"
        assert json.loads(final.output[0].arguments).keys() == {"n"}
        form: Any = {"format": {"type": "json_schema", "name": "x", "schema": {"properties": {"a": {"const": 7}}}}}
        assert (await client.responses.create(model="llama3.2", input="hi", text=form)).output_text == '{"a": 7}'
        with pytest.raises(openai.NotFoundError):
            await client.responses.create(model="nope", input="hi")


async def test_the_official_client_sync() -> None:
    def talk(url: str) -> int:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="ollama", max_retries=0) as client:
            stream = client.responses.create(model="llama3.2", input="hi", stream=True)
            return sum(event.type == "response.output_text.delta" for event in stream)

    async with Ollama() as sim:
        assert await asyncio.to_thread(talk, sim.url) == 24
