"""Background mode by the methods of OpenAI's SDK, unmodified, over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from tests.support.backend import eventually
from tests.support.sdk_place import MODEL, Place, placed

OVER = ("completed", "failed", "cancelled", "incomplete")


@pytest.fixture(params=["memory", "sqlite:state.db"])
async def place(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with placed(tmp_path, store=request.param, slots=1) as found:
        yield found


async def ended(client: openai.AsyncOpenAI, id: str) -> Response:
    while True:
        found = await client.responses.retrieve(id)
        if found.status in OVER:
            return found


async def test_a_response_is_made_in_the_background(place: Place) -> None:
    async with place.openai() as client:
        made = await client.responses.create(model=MODEL, input="Why is the sky blue?", background=True)
        assert made.status in ("queued", "in_progress")
        assert made.background
        found = await ended(client, made.id)
        assert (found.id, found.status) == (made.id, "completed")
        assert found.output_text
        assert found.usage is not None


async def test_the_object_is_the_backends_but_for_its_id(place: Place) -> None:
    async with place.openai() as client:
        made = await client.responses.create(model=MODEL, input="hi", background=True)
        await ended(client, made.id)
        raw = await client.responses.with_raw_response.retrieve(made.id)
        events = await client.responses.with_raw_response.retrieve(made.id, stream=True)
        last = events.http_response.read() if events.http_response.is_closed else await events.http_response.aread()
        assert raw.http_response.content in last
        assert last.count(made.id.encode()) == 3


async def test_events_go_on_behind_any_number(place: Place) -> None:
    async with place.openai() as client:
        made = await client.responses.create(model=MODEL, input="hi", background=True)
        whole = [event async for event in await client.responses.retrieve(made.id, stream=True)]
        numbers = [event.sequence_number for event in whole]
        assert numbers == list(range(len(whole)))
        assert whole[-1].type == "response.completed"
        for after in (0, 3, numbers[-2], numbers[-1]):
            rest = await client.responses.retrieve(made.id, stream=True, starting_after=after)
            assert [event.sequence_number async for event in rest] == numbers[after + 1 :]


async def test_a_stream_survives_a_client_that_leaves(place: Place) -> None:
    async with place.openai() as client:
        stream = await client.responses.create(model=MODEL, input="hi", background=True, stream=True)
        first: Any = await anext(aiter(stream))
        await stream.close()
        assert first.type == "response.created"
        rest = await client.responses.retrieve(first.response.id, stream=True, starting_after=first.sequence_number)
        numbers = [event.sequence_number async for event in rest]
        assert numbers == list(range(1, len(numbers) + 1))
        found = await client.responses.retrieve(first.response.id)
        assert (found.id, found.status) == (first.response.id, "completed")


async def test_a_cancelled_response_stops_its_generation(place: Place) -> None:
    place.sim.settings.tokens = 100_000
    async with place.openai() as client:
        made = await client.responses.create(model=MODEL, input="hi", background=True)
        await eventually(lambda: place.sim.counters.active == 1)
        gone = await client.responses.cancel(made.id)
        assert (gone.id, gone.status) == (made.id, "cancelled")
        await eventually(lambda: place.sim.counters.active == 0)
        assert (await client.responses.cancel(made.id)).status == "cancelled"
        events = [event async for event in await client.responses.retrieve(made.id, stream=True)]
        assert events[-1].type == "response.failed"


async def test_a_deleted_response_is_gone(place: Place) -> None:
    async with place.openai() as client:
        made = await client.responses.create(model=MODEL, input="hi", background=True)
        await ended(client, made.id)
        raw = await client.responses.with_raw_response.delete(made.id)
        assert raw.http_response.json() == {"id": made.id, "object": "response", "deleted": True}
        with pytest.raises(openai.NotFoundError) as error:
            await client.responses.retrieve(made.id)
        assert error.value.code == "no_such_response"


async def test_a_response_is_its_owners_alone(place: Place) -> None:
    async with place.openai() as client, place.openai("bob") as other:
        made = await client.responses.create(model=MODEL, input="hi", background=True)
        calls: list[Callable[[], Any]] = [
            lambda: other.responses.retrieve(made.id),
            lambda: other.responses.cancel(made.id),
            lambda: other.responses.delete(made.id),
            lambda: other.responses.input_items.list(made.id),
        ]
        for call in calls:
            with pytest.raises(openai.NotFoundError):
                await call()
        assert (await ended(client, made.id)).status == "completed"


async def test_a_response_that_fails_says_why(place: Place) -> None:
    async with place.openai() as client:
        made = await client.responses.create(model="no-such-model", input="hi", background=True)
        found = await ended(client, made.id)
        assert found.status == "failed"
        assert found.error is not None
        assert "no-such-model" in found.error.message
        events = [event async for event in await client.responses.retrieve(made.id, stream=True)]
        assert [event.type for event in events] == ["response.failed"]


async def test_background_needs_a_response_that_is_stored(place: Place) -> None:
    async with place.openai() as client:
        with pytest.raises(openai.BadRequestError) as error:
            await client.responses.create(model=MODEL, input="hi", background=True, store=False)
        assert error.value.code == "background_needs_store"
        assert (await client.responses.create(model=MODEL, input="hi", background=False)).status == "completed"


async def test_what_was_asked_can_be_listed(place: Place) -> None:
    async with place.openai() as client:
        made = await client.responses.create(model=MODEL, input="Why?", background=True)
        (item,) = (await client.responses.input_items.list(made.id)).data
        assert item.type == "message"
        assert item.content[0].type == "input_text"
        assert item.content[0].text == "Why?"


async def test_the_blocking_client(place: Place) -> None:
    def use() -> None:
        with place.blocking_openai() as client:
            made = client.responses.create(model=MODEL, input="hi", background=True)
            events = list(client.responses.retrieve(made.id, stream=True, starting_after=0))
            assert events[-1].type == "response.completed"
            assert client.responses.retrieve(made.id).status == "completed"
            assert client.responses.cancel(made.id).status == "completed"
            client.responses.delete(made.id)
            with pytest.raises(openai.NotFoundError):
                client.responses.retrieve(made.id)

    await asyncio.to_thread(use)
