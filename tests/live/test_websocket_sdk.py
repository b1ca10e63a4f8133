"""The Responses API over WebSocket, as the `openai` SDK and the Agents SDK speak it by their own methods."""

import asyncio
import json
from typing import Any

import pytest
from agents import Agent, RunConfig, Runner, function_tool
from agents.models.openai_responses import OpenAIResponsesWSModel
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import ResponseCompletedEvent
from openai.types.responses.responses_server_event import ResponseWsError

from proxy.simulator import Ollama
from tests.support.proxy import Running, running
from tests.support.raw import PATIENCE

MODEL = "llama3.2"
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}


def sdk(proxy: Running) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="ollama", max_retries=0)


async def one_response(connection: Any, **members: Any) -> list[Any]:
    """Ask for a response, and collect its events up to the last one."""
    await connection.response.create(model=MODEL, **members)
    return await events(connection)


async def events(connection: Any) -> list[Any]:
    found: list[Any] = []
    async with asyncio.timeout(PATIENCE):
        while not found or found[-1].type not in ("response.completed", "response.failed", "error"):
            found.append(await connection.recv())
    return found


async def test_a_conversation_goes_on_by_previous_response_id() -> None:
    async with Ollama(call_tools=False) as sim, running(sim.url) as proxy, sdk(proxy) as client:
        async with client.responses.connect() as connection:
            first = await one_response(connection, input="my name is Ada")
            assert [event.type for event in first][:2] == ["response.created", "response.in_progress"]
            assert isinstance(first[-1], ResponseCompletedEvent)
            assert first[-1].response.output_text
            await one_response(connection, input="what is it?", previous_response_id=first[-1].response.id)
        body = sim.last.json()
        said = [(item["role"], item["content"]) for item in body["input"]]
        assert said[0] == ("user", "my name is Ada")
        assert said[1][0] == "assistant"
        assert said[1][1][0]["text"] == first[-1].response.output_text
        assert said[2] == ("user", "what is it?")
        assert body.keys() == {"model", "input", "stream"}


async def test_tools_are_called_and_their_output_goes_back() -> None:
    async with Ollama(call_tools=True) as sim, running(sim.url) as proxy, sdk(proxy) as client:
        async with client.responses.connect() as connection:
            asked = await one_response(connection, input="weather in Rome?", tools=[WEATHER])
            (call,) = [item for item in asked[-1].response.output if item.type == "function_call"]
            output: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]
            told = await one_response(
                connection, input=output, tools=[WEATHER], previous_response_id=asked[-1].response.id
            )
            assert told[-1].response.output_text
        kinds = [item.get("type") for item in sim.last.json()["input"]]
        assert kinds == ["message", "function_call", "function_call_output"]


async def test_an_unknown_response_is_the_error_that_the_sdk_knows() -> None:
    async with Ollama() as sim, running(sim.url) as proxy, sdk(proxy) as client:
        async with client.responses.connect() as connection:
            (error,) = await one_response(connection, input="go on", previous_response_id="resp_elsewhere")
            assert isinstance(error, ResponseWsError)
            assert (error.status, error.error.code) == (400, "previous_response_not_found")
            assert error.error.type == "invalid_request_error"
            assert not sim.requests
            assert (await one_response(connection, input="hi"))[-1].type == "response.completed"


async def test_streams_have_lanes() -> None:
    async with (
        Ollama(call_tools=False, token_delay=0.002, num_parallel=4) as sim,
        running(sim.url) as proxy,
        sdk(proxy) as client,
    ):
        async with client.responses.connect() as connection:
            for lane in ("a", "b", "a"):
                await connection.response.create(model=MODEL, input=f"for {lane}", stream_id=lane)
            found: list[Any] = []
            async with asyncio.timeout(PATIENCE):
                while sum(event.type == "response.completed" for event in found) < 3:
                    found.append(await connection.recv())
            assert {event.stream_id for event in found} == {"a", "b"}
            of_a = [event.type for event in found if event.stream_id == "a"]
            half = len(of_a) // 2
            assert of_a[half - 1] == of_a[-1] == "response.completed"
            first_of_b = next(place for place, event in enumerate(found) if event.stream_id == "b")
            assert first_of_b < next(n for n, event in enumerate(found) if event.type == "response.completed")


async def test_a_response_that_generates_nothing_is_remembered() -> None:
    async with Ollama(call_tools=False) as sim, running(sim.url) as proxy, sdk(proxy) as client:
        async with client.responses.connect() as connection:
            prepared = await one_response(connection, input="be brief", generate=False)
            assert [event.type for event in prepared] == ["response.created", "response.completed"]
            assert not prepared[-1].response.output
            assert not sim.requests
            await one_response(connection, input="hi", previous_response_id=prepared[-1].response.id)
        assert [item["content"] for item in sim.last.json()["input"]] == ["be brief", "hi"]


async def test_what_ollama_refuses_is_an_error_event() -> None:
    async with Ollama() as sim, running(sim.url) as proxy, sdk(proxy) as client:
        async with client.responses.connect() as connection:
            await connection.response.create(model="nobody-has-it", input="hi", stream_id="x")
            (error,) = await events(connection)
            assert (error.type, error.status, error.stream_id) == ("error", 404, "x")
            assert "not found" in error.error.message
            (error,) = await one_response(connection, input="hi", background=True)
            assert error.status == 400


def test_the_blocking_client_speaks_it_too() -> None:
    async def serve(ask: Any) -> Any:
        async with Ollama(call_tools=False) as sim, running(sim.url) as proxy:
            return await asyncio.to_thread(ask, proxy.url)

    def ask(url: str) -> str:
        with OpenAI(base_url=f"{url}/v1", api_key="ollama") as client, client.responses.connect() as connection:
            connection.response.create(model=MODEL, input="hi")
            for event in connection:
                if event.type == "response.completed":
                    return event.response.output_text
        return ""

    assert asyncio.run(serve(ask))


@function_tool
def weather(city: str) -> str:
    """Return the weather."""
    return f"sunny in {city}"


@pytest.mark.parametrize("chained", [False, True], ids=["whole input", "previous_response_id"])
async def test_the_agents_sdk_runs_over_a_socket(chained: bool) -> None:
    async with Ollama(call_tools=True) as sim, running(sim.url) as proxy, sdk(proxy) as client:
        model = OpenAIResponsesWSModel(model=MODEL, openai_client=client)
        agent = Agent(name="guide", instructions="You tell the weather.", model=model, tools=[weather])
        config = RunConfig(tracing_disabled=True)
        result = await Runner.run(agent, "weather in Rome?", run_config=config, auto_previous_response_id=chained)
        assert result.final_output
        assert [type(item).__name__ for item in result.new_items][:2] == ["ToolCallItem", "ToolCallOutputItem"]
        kinds = [item.get("type", "message") for item in sim.last.json()["input"]]
        assert kinds == ["message", "function_call", "function_call_output"]
        streamed = Runner.run_streamed(agent, "and in Oslo?", run_config=config)
        async with asyncio.timeout(PATIENCE):
            kinds = [event.type async for event in streamed.stream_events()]
        assert "raw_response_event" in kinds
        assert json.dumps(streamed.final_output)
        await model.close()
        assert len(sim.requests) == 4
