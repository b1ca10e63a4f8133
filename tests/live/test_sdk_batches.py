"""Files, batches and message batches by the methods of the SDKs, unmodified, over a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import anthropic
import openai
import pytest
from openai.types import Batch

from proxy.simulator import Ollama
from tests.support.proxy import running
from tests.support.sdk_place import MODEL, Place, placed

ENDED = ("completed", "failed", "expired", "cancelled")
CHAT: Final = "/v1/chat/completions"
STORES = ["memory", "sqlite:state.db"]


@pytest.fixture(params=STORES)
async def place(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with placed(tmp_path, store=request.param, batches={"lines": 50, "open": 3, "at_once": 4}) as found:
        yield found


def line(custom_id: str, path: str = CHAT, **body: Any) -> dict[str, Any]:
    message = {"role": "user", "content": f"hi {custom_id}"}
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": path,
        "body": {"model": MODEL, "messages": [message], **body},
    }


def jsonl(*lines: object) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def read(content: bytes) -> dict[str, Any]:
    return {found["custom_id"]: found for found in map(json.loads, content.splitlines())}


async def begun(client: openai.AsyncOpenAI, data: bytes, endpoint: Any = CHAT, **more: Any) -> Batch:
    file = await client.files.create(file=("in.jsonl", data), purpose="batch")
    return await client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more)


async def when(ask: Callable[[], Awaitable[Any]], done: Callable[[Any], bool]) -> Any:
    """Ask until it is done; the proxy works in the meantime."""
    while True:
        found = await ask()
        if done(found):
            return found


async def ended(client: openai.AsyncOpenAI, id: str) -> Batch:
    found: Batch = await when(lambda: client.batches.retrieve(id), lambda batch: batch.status in ENDED)
    return found


async def test_a_batch_from_its_file_to_its_results(place: Place) -> None:
    async with place.openai() as client:
        batch = await begun(client, jsonl(*(line(f"q{n}") for n in range(10))), metadata={"for": "test"})
        assert batch.status in ("validating", "in_progress")
        done = await ended(client, batch.id)
        assert (done.status, done.error_file_id, done.metadata) == ("completed", None, {"for": "test"})
        assert done.request_counts is not None
        assert done.request_counts.model_dump() == {"total": 10, "completed": 10, "failed": 0}
        assert done.output_file_id is not None
        results = read((await client.files.content(done.output_file_id)).content)
        assert list(results) == [f"q{n}" for n in range(10)]
        for result in results.values():
            assert result["error"] is None
            assert result["response"]["status_code"] == 200
            assert result["response"]["body"]["choices"][0]["message"]["content"]
        output = await client.files.retrieve(done.output_file_id)
        assert (output.purpose, output.bytes) == ("batch_output", len((await client.files.content(output.id)).content))


async def test_errors_have_a_file_of_their_own(place: Place) -> None:
    async with place.openai() as client:
        batch = await begun(client, jsonl(line("good"), line("bad", model="no-such-model")))
        done = await ended(client, batch.id)
        assert done.status == "completed"
        assert done.request_counts is not None
        assert done.request_counts.model_dump() == {"total": 2, "completed": 1, "failed": 1}
        assert done.output_file_id is not None
        assert done.error_file_id is not None
        assert list(read((await client.files.content(done.output_file_id)).content)) == ["good"]
        errors = read((await client.files.content(done.error_file_id)).content)
        assert list(errors) == ["bad"]
        assert errors["bad"]["response"]["status_code"] == 404
        assert "no-such-model" in errors["bad"]["response"]["body"]["error"]["message"]


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/completions", {"model": MODEL, "prompt": "hi"}),
        ("/v1/embeddings", {"model": "nomic-embed-text", "input": "hi"}),
        ("/v1/responses", {"model": MODEL, "input": "hi"}),
    ],
)
async def test_every_endpoint(place: Place, endpoint: str, body: dict[str, Any]) -> None:
    async with place.openai() as client:
        asked = {"custom_id": "one", "method": "POST", "url": endpoint, "body": body}
        done = await ended(client, (await begun(client, jsonl(asked), endpoint)).id)
        assert (done.status, done.error_file_id) == ("completed", None)


async def test_a_file_with_mistakes_fails_with_all_of_them(place: Place) -> None:
    wrong = {"custom_id": "b", "method": "GET", "url": CHAT, "body": {}}
    data = jsonl(line("a"), line("a"), wrong, line("c", "/v1/embeddings"), line("d", stream=True)) + b"{\n"
    async with place.openai() as client:
        done = await ended(client, (await begun(client, data)).id)
        assert (done.status, done.output_file_id) == ("failed", None)
        assert done.errors is not None
        found = [(error.line, error.code) for error in done.errors.data or ()]
        assert found == [
            (2, "duplicate_custom_id"),
            (3, "invalid_method"),
            (4, "mismatched_endpoint"),
            (5, "invalid_request"),
            (6, "invalid_json_line"),
        ]
        assert place.sim.counters.by_route[CHAT] == 0


async def test_a_cancelled_batch_keeps_what_it_has(place: Place) -> None:
    async with place.openai() as client:
        place.sim.settings.tokens = 100_000
        batch = await begun(client, jsonl(*(line(f"q{n}") for n in range(10))))
        await place.sim.wait_for(lambda: place.sim.counters.active == 2)
        assert (await client.batches.cancel(batch.id)).status == "cancelling"
        done = await ended(client, batch.id)
        assert done.status == "cancelled"
        await place.sim.wait_for(lambda: place.sim.counters.active == 0)
        assert done.error_file_id is not None
        errors = read((await client.files.content(done.error_file_id)).content)
        assert {error["error"]["code"] for error in errors.values()} == {"batch_cancelled"}
        assert len(errors) == 10


async def test_lists_have_pages(place: Place) -> None:
    async with place.openai() as client:
        made = []
        for number in range(3):
            made.append((await begun(client, jsonl(line(f"q{number}")))).id)
            await ended(client, made[-1])
        page = await client.batches.list(limit=2)
        assert [batch.id for batch in page.data] == made[:0:-1]
        assert page.has_more
        assert [batch.id async for batch in client.batches.list(limit=2)] == made[::-1]
        files = [file async for file in client.files.list(purpose="batch", limit=2)]
        assert len(files) == 3
        assert len([file async for file in client.files.list()]) == 6


async def test_files_are_deleted_when_no_batch_needs_them(place: Place) -> None:
    async with place.openai() as client:
        place.sim.settings.tokens = 100_000
        batch = await begun(client, jsonl(line("a")))
        with pytest.raises(openai.ConflictError) as conflict:
            await client.files.delete(batch.input_file_id)
        assert conflict.value.code == "file_in_use"
        await client.batches.cancel(batch.id)
        await ended(client, batch.id)
        assert (await client.files.delete(batch.input_file_id)).deleted
        with pytest.raises(openai.NotFoundError):
            await client.files.retrieve(batch.input_file_id)


async def test_bounds_and_forms_are_refused_in_openais_form(place: Place) -> None:
    async with place.openai() as client:
        many = await ended(client, (await begun(client, jsonl(*(line(f"q{n}") for n in range(51))))).id)
        assert many.errors is not None
        assert [error.code for error in many.errors.data or ()] == ["too_many_lines"]
        with pytest.raises(openai.BadRequestError) as error:
            await client.files.create(file=("x", b"x"), purpose="fine-tune")
        assert error.value.code == "invalid_file"
        with pytest.raises(openai.NotFoundError) as missing:
            await client.batches.create(input_file_id="file-x", endpoint=CHAT, completion_window="24h")
        assert missing.value.code == "no_such_file"
        place.sim.settings.tokens = 100_000
        for _ in range(3):
            await begun(client, jsonl(line("a")))
        with pytest.raises(openai.RateLimitError) as full:
            await begun(client, jsonl(line("a")))
        assert full.value.code == "too_many_batches"


async def test_batches_and_files_are_their_owners_alone(place: Place) -> None:
    async with place.openai() as client, place.openai("bob") as other:
        batch = await begun(client, jsonl(line("a")))
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: other.batches.retrieve(batch.id),
            lambda: other.batches.cancel(batch.id),
            lambda: other.files.retrieve(batch.input_file_id),
            lambda: other.files.content(batch.input_file_id),
            lambda: other.files.delete(batch.input_file_id),
            lambda: other.batches.create(input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h"),
        ]
        for call in calls:
            with pytest.raises(openai.NotFoundError):
                await call()
        assert [found async for found in other.batches.list()] == []
        assert [found async for found in other.files.list()] == []


def params(number: int, **more: Any) -> Any:
    message = {"role": "user", "content": f"hi {number}"}
    return {"custom_id": f"q{number}", "params": {"model": MODEL, "max_tokens": 20, "messages": [message], **more}}


async def messages_ended(client: anthropic.AsyncAnthropic, id: str) -> Any:
    return await when(lambda: client.messages.batches.retrieve(id), lambda batch: batch.processing_status == "ended")


async def test_a_message_batch_from_requests_to_results(place: Place) -> None:
    async with place.anthropic() as client:
        batch = await client.messages.batches.create(requests=[*map(params, range(6)), params(6, model="no-such")])
        assert (batch.processing_status, batch.request_counts.processing, batch.results_url) == ("in_progress", 7, None)
        done = await messages_ended(client, batch.id)
        assert done.request_counts.model_dump() == {
            "processing": 0, "succeeded": 6, "errored": 1, "canceled": 0, "expired": 0,
        }  # fmt: skip
        assert done.results_url == f"{place.proxy.url}/v1/messages/batches/{batch.id}/results"
        results: dict[str, Any] = {
            entry.custom_id: entry.result async for entry in await client.messages.batches.results(batch.id)
        }
        assert list(results) == [f"q{number}" for number in range(7)]
        assert all(results[f"q{n}"].type == "succeeded" for n in range(6))
        assert results["q0"].message.content
        assert results["q6"].type == "errored"
        assert "no-such" in results["q6"].error.error.message
        assert (await client.messages.batches.delete(batch.id)).type == "message_batch_deleted"
        with pytest.raises(anthropic.NotFoundError):
            await client.messages.batches.retrieve(batch.id)


async def test_a_message_batch_is_cancelled(place: Place) -> None:
    place.sim.settings.tokens = 100_000
    async with place.anthropic() as client, place.anthropic("bob") as other:
        batch = await client.messages.batches.create(requests=list(map(params, range(8))))
        with pytest.raises(anthropic.ConflictError):
            await client.messages.batches.delete(batch.id)
        with pytest.raises(anthropic.NotFoundError):
            await other.messages.batches.cancel(batch.id)
        assert (await client.messages.batches.cancel(batch.id)).processing_status == "canceling"
        done = await messages_ended(client, batch.id)
        assert done.request_counts.canceled == 8
        results = [entry.result.type async for entry in await client.messages.batches.results(batch.id)]
        assert results == ["canceled"] * 8


async def test_lists_of_message_batches_have_pages(place: Place) -> None:
    async with place.anthropic() as client:
        made = []
        for number in range(3):
            made.append((await client.messages.batches.create(requests=[params(number)])).id)
            await messages_ended(client, made[-1])
        assert [batch.id async for batch in client.messages.batches.list(limit=2)] == made[::-1]
        page = await client.messages.batches.list(limit=1, before_id=made[0])
        assert [batch.id for batch in page.data] == [made[1]]


async def test_wrong_message_batches_are_refused_in_anthropics_form(place: Place) -> None:
    wrong: list[Any] = [
        [],
        [params(1), params(1)],
        [{**params(1), "custom_id": "a b"}],
        [params(1, stream=True)],
    ]
    async with place.anthropic() as client:
        for requests in wrong:
            with pytest.raises(anthropic.BadRequestError) as error:
                await client.messages.batches.create(requests=requests)
            assert error.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]


async def test_the_blocking_clients(place: Place) -> None:
    def use_openai() -> None:
        with place.blocking_openai() as client:
            file = client.files.create(file=("in.jsonl", jsonl(line("a"))), purpose="batch")
            batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
            while (batch := client.batches.retrieve(batch.id)).status not in ENDED:
                pass
            assert batch.output_file_id is not None
            assert list(read(client.files.content(batch.output_file_id).content)) == ["a"]
            assert [found.id for found in client.batches.list()] == [batch.id]

    def use_anthropic() -> None:
        with place.blocking_anthropic() as client:
            batch = client.messages.batches.create(requests=[params(1)])
            while (batch := client.messages.batches.retrieve(batch.id)).processing_status != "ended":
                pass
            (result,) = client.messages.batches.results(batch.id)
            assert result.result.type == "succeeded"
            client.messages.batches.delete(batch.id)

    await asyncio.to_thread(use_openai)
    await asyncio.to_thread(use_anthropic)


async def test_each_line_is_checked_as_its_request_would_be(tmp_path: Path) -> None:
    async with placed(tmp_path, policy={"access": {"models": ["qwen3"]}}) as place, place.openai("bob") as client:
        done = await ended(client, (await begun(client, jsonl(line("a"), line("b", model="qwen3")))).id)
        assert done.output_file_id is not None
        assert done.error_file_id is not None
        assert list(read((await client.files.content(done.output_file_id)).content)) == ["b"]
        (error,) = read((await client.files.content(done.error_file_id)).content).values()
        assert (error["response"]["status_code"], error["custom_id"]) == (403, "a")
        assert error["response"]["body"]["error"]["code"] == "model_not_allowed"


async def test_a_policy_may_keep_nothing(tmp_path: Path) -> None:
    async with placed(tmp_path, policy={"defer": "off"}) as place:
        async with place.openai("bob") as client:
            with pytest.raises(openai.PermissionDeniedError) as refused:
                await client.files.create(file=("in.jsonl", b"x"), purpose="batch")
            assert refused.value.code == "batches_not_allowed"
        async with place.anthropic("bob") as other:
            with pytest.raises(anthropic.PermissionDeniedError):
                await other.messages.batches.create(requests=[params(1)])


async def test_a_proxy_without_defer_has_no_such_routes() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="ollama", max_retries=0) as client:
            with pytest.raises(openai.NotFoundError):
                await client.files.retrieve("file-1")
            made = await client.responses.create(model=MODEL, input="hi", background=True)
            assert made.status == "completed"
