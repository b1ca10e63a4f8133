"""Three hosts look like one Ollama to its own client, in its own shapes, while they come and go."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import ollama
import openai
import orjson
import pytest

from proxy.simulator import Ollama
from tests.support.backend import PATIENCE, eventually
from tests.support.proxy import Running, running
from tests.support.wire import ask

STORES = (("llama3.2", "qwen3"), ("llama3.2", "phi4"), ("nomic-embed-text",))
TAGS = {"name", "model", "modified_at", "size", "digest", "details", "capabilities"}
PS = {"name", "model", "size", "digest", "details", "expires_at", "size_vram", "context_length"}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


@asynccontextmanager
async def three(**settings: Any) -> AsyncIterator[tuple[list[Ollama], Running]]:
    async with AsyncExitStack() as stack:
        sims = [await stack.enter_async_context(Ollama(*store)) for store in STORES]
        pool = {"health": {"every": "50ms", "timeout": "1s", "down_after": 2}}
        proxy = await stack.enter_async_context(
            running(*(sim.url for sim in sims), watched=True, pool=pool, **settings)
        )
        yield sims, proxy


async def get(proxy: Running, path: str) -> Any:
    reply = await ask(proxy.address, "GET", path)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("application/json")
    return orjson.loads(reply.body)


async def looked(proxy: Running) -> None:
    for backend in proxy.app.pool.backends:
        await proxy.app.watch.look(backend)


async def shown(proxy: Running, names: set[str]) -> list[dict[str, Any]]:
    """Wait until exactly these models are listed, and return the list."""
    async with asyncio.timeout(PATIENCE):
        while True:
            models: list[dict[str, Any]] = (await get(proxy, "/api/tags"))["models"]
            if {entry["name"].removesuffix(":latest") for entry in models} == names:
                assert len(models) == len(names)
                return models
            await asyncio.sleep(0.01)  # a client has no other way than to ask again


async def test_lists_follow_the_hosts() -> None:
    everything = {"llama3.2", "qwen3", "phi4", "nomic-embed-text"}
    async with three() as (sims, proxy):
        await shown(proxy, everything)
        await sims[0].stop()
        await shown(proxy, {"llama3.2", "phi4", "nomic-embed-text"})  # llama3.2 is on the second, too
        await sims[1].stop()
        await shown(proxy, {"nomic-embed-text"})
        await sims[0].start()
        await shown(proxy, {"llama3.2", "qwen3", "nomic-embed-text"})
        for sim in (sims[0], sims[2]):
            await sim.stop()
        await eventually(lambda: all(backend.health.state == "down" for backend in proxy.app.pool.backends))
        assert (await get(proxy, "/api/tags"))["models"]  # what they said last
        for sim in sims:
            await sim.start()
        await shown(proxy, everything)


async def test_they_are_in_ollamas_shape() -> None:
    async with three() as (sims, proxy):
        for entry in await shown(proxy, {"llama3.2", "qwen3", "phi4", "nomic-embed-text"}):
            assert set(entry) >= TAGS
            assert re.fullmatch("[0-9a-f]{64}", entry["digest"])
            assert MOMENT.fullmatch(entry["modified_at"])
        for sim, model in zip(sims, ("llama3.2", "phi4"), strict=False):
            body = {"model": model, "prompt": "hi"}
            name = f"b{sims.index(sim) + 1}"
            assert (await ask(proxy.address, "POST", f"/-/backends/{name}/api/generate", body)).clean
        await looked(proxy)
        resident = (await get(proxy, "/api/ps"))["models"]
        assert sorted(entry["name"] for entry in resident) == ["llama3.2:latest", "phi4:latest"]
        for entry in resident:
            assert set(entry) >= PS
            assert re.fullmatch("[0-9a-f]{64}", entry["digest"])
            assert MOMENT.fullmatch(entry["expires_at"])
        one = await get(proxy, "/v1/models/phi4")
        assert (set(one), one["id"]) == ({"id", "object", "created", "owned_by"}, "phi4")  # as it was asked for
        assert {**one, "id": "phi4:latest"} in (await get(proxy, "/v1/models"))["data"]


@pytest.mark.parametrize("down", [None, 0, 1, 2])
async def test_the_official_clients_read_them(down: int | None) -> None:
    async with three() as (sims, proxy):
        if down is not None:
            await sims[down].stop()
        left = {name for number, store in enumerate(STORES) if number != down for name in store}
        await shown(proxy, left)
        client = ollama.AsyncClient(proxy.url)
        listed = await client.list()
        assert {str(model.model).removesuffix(":latest") for model in listed.models} == left
        assert all(model.digest and model.size and model.modified_at and model.details for model in listed.models)
        chat = left - {"nomic-embed-text"}
        for name in sorted(chat):
            assert (await client.generate(name, "hi")).response
            assert (await client.show(name)).details
        await looked(proxy)
        running_now = (await client.ps()).models
        assert {str(model.model).removesuffix(":latest") for model in running_now} == chat
        assert all(model.expires_at and model.context_length and model.size_vram for model in running_now)
        await client._client.aclose()
        async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="none") as sdk:
            assert {model.id.removesuffix(":latest") async for model in sdk.models.list()} == left
            assert (await sdk.models.retrieve(sorted(left)[0])).created > 0


async def test_everybody_sees_only_what_he_may_use() -> None:
    access = {"access": {"models": ["llama3.2", "phi*"]}}
    async with three(middleware=["logging", access, "retry"]) as (_, proxy):
        await shown(proxy, {"llama3.2", "phi4"})
        assert {model["id"] for model in (await get(proxy, "/v1/models"))["data"]} == {"llama3.2:latest", "phi4:latest"}
        assert (await ask(proxy.address, "GET", "/v1/models/qwen3")).status == 403
