"""proxy/relay/merged_lists.py: many hosts look like one Ollama, to its own client and in its own shape."""

import gc
import re
from typing import Any

import ollama
import openai
import orjson
import pytest

from proxy.relay.merged_lists import MergedLists
from proxy.simulator import Ollama
from tests.support.proxy import Running, running
from tests.support.wire import ask

SHAPE = {"name", "model", "modified_at", "size", "digest", "details", "capabilities"}


async def looked(proxy: Running) -> None:
    for backend in proxy.app.pool.backends:
        await proxy.app.watch.look(backend)


async def get(proxy: Running, path: str) -> Any:
    reply = await ask(proxy.address, "GET", path)
    assert reply.status == 200, reply.body
    return orjson.loads(reply.body)


async def test_models_are_merged_and_listed_once() -> None:
    async with Ollama("llama3.2", "qwen3") as one, Ollama("llama3.2", "phi4") as two:
        async with running(one.url, two.url) as proxy:
            await looked(proxy)
            before = one.counters.requests + two.counters.requests
            tags = await get(proxy, "/api/tags")
            names = [entry["name"] for entry in tags["models"]]
            assert sorted(names) == ["llama3.2:latest", "phi4:latest", "qwen3:latest"]
            for entry in tags["models"]:
                assert set(entry) >= SHAPE
                assert re.fullmatch("[0-9a-f]{64}", entry["digest"])
            moments = [entry["modified_at"] for entry in tags["models"]]
            assert moments == sorted(moments, reverse=True)
            models = await get(proxy, "/v1/models")
            assert sorted(model["id"] for model in models["data"]) == sorted(names)
            assert set(models["data"][0]) == {"id", "object", "created", "owned_by"}
            assert one.counters.requests + two.counters.requests == before


@pytest.mark.parametrize(
    "path", ["/v1/models/phi4", "/v1/models/PHI4:latest", "/v1/models", "/v1/models/none", "/api/tags"]
)
async def test_a_list_is_written_as_one_ollama_writes_it(path: str) -> None:
    async with Ollama("phi4") as one, Ollama("phi4") as two, running(one.url, two.url) as proxy:
        await looked(proxy)
        before = one.counters.requests + two.counters.requests
        merged = await ask(proxy.address, "GET", path)
        assert one.counters.requests + two.counters.requests == before + (merged.status == 404)
        alone = [await ask(("127.0.0.1", host.port), "GET", path) for host in (one, two)]
        written = [(reply.status, reply.headers["content-type"], reply.body) for reply in alone]
        assert (merged.status, merged.headers["content-type"], merged.body) in written


async def test_what_is_in_memory_is_merged() -> None:
    async with Ollama("llama3.2") as one, Ollama("llama3.2", "phi4") as two, running(one.url, two.url) as proxy:
        for name, model in (("b1", "llama3.2"), ("b2", "llama3.2"), ("b2", "phi4")):
            body = {"model": model, "prompt": "hi"}
            assert (await ask(proxy.address, "POST", f"/-/backends/{name}/api/generate", body)).clean
        await looked(proxy)
        running_now = await get(proxy, "/api/ps")
        assert sorted(entry["model"] for entry in running_now["models"]) == ["llama3.2:latest", "phi4:latest"]
        assert {"expires_at", "size_vram", "context_length"} <= set(running_now["models"][0])


@pytest.mark.parametrize(
    ("versions", "lowest"),
    [
        (("0.33.0", "0.32.6"), "0.32.6"),
        (("0.9.0", "0.10.0"), "0.9.0"),
        (("0.33.0-rc2", "0.33.0"), "0.33.0-rc2"),
        (("0.\u00b2.0", "0.33.0"), "0.\u00b2.0"),  # digits that are no number
        (("0." + "9" * 5000, "0.33.0"), "0." + "9" * 5000),
    ],
)
async def test_the_version_is_the_lowest(versions: tuple[str, str], lowest: str) -> None:
    async with Ollama(version=versions[0]) as one, Ollama(version=versions[1]) as two:
        async with running(one.url, two.url) as proxy:
            await looked(proxy)
            assert await get(proxy, "/api/version") == {"version": lowest}


async def test_the_official_clients_read_them_with_hosts_up_and_down() -> None:
    async with Ollama("llama3.2", "qwen3") as one, Ollama("phi4") as two, running(one.url, two.url) as proxy:
        client = ollama.AsyncClient(proxy.url)
        for expected in ({"llama3.2:latest", "qwen3:latest", "phi4:latest"}, {"llama3.2:latest", "qwen3:latest"}):
            await looked(proxy)
            assert {model.model for model in (await client.list()).models} == expected
            assert (await client.ps()).models is not None
            async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="none") as sdk:
                assert {model.id async for model in sdk.models.list()} == expected
            await two.stop()
            for _ in range(3):
                await looked(proxy)
        assert (await client.show("llama3.2")).details
        await client._client.aclose()


async def test_a_model_that_nobody_has_is_asked_of_a_backend() -> None:
    async with Ollama("llama3.2") as one, Ollama("phi4") as two, running(one.url, two.url) as proxy:
        await looked(proxy)
        reply = await ask(proxy.address, "GET", "/v1/models/nope")
        assert reply.status == 404
        assert b"nope" in reply.body


async def test_who_changes_something_finds_it_changed() -> None:
    async with Ollama("llama3.2") as one, Ollama("phi4") as two, running(one.url, two.url) as proxy:
        await looked(proxy)
        assert (await ask(proxy.address, "POST", "/-/backends/b2/api/pull", {"model": "qwen3"})).clean
        tags = await get(proxy, "/api/tags")
        assert "qwen3:latest" in {entry["name"] for entry in tags["models"]}
        deletion = await ask(proxy.address, "DELETE", "/-/backends/b2/api/delete", {"model": "qwen3"})
        assert deletion.status == 200
        assert (await ask(proxy.address, "GET", "/v1/models/qwen3")).status == 404
        tags = await get(proxy, "/api/tags")
        assert "qwen3:latest" not in {entry["name"] for entry in tags["models"]}
        asked = len(two.seen("/api/tags"))
        await get(proxy, "/api/tags")
        assert len(two.seen("/api/tags")) == asked


async def test_a_model_that_was_just_pulled_is_used_where_it_is() -> None:
    async with Ollama("llama3.2") as one, Ollama("phi4") as two, running(one.url, two.url) as proxy:
        await looked(proxy)
        assert (await ask(proxy.address, "POST", "/-/backends/b2/api/pull", {"model": "qwen3"})).clean
        for path in ("/api/show", "/api/generate"):
            assert (await ask(proxy.address, "POST", path, {"model": "qwen3"})).status == 200
        assert not one.seen("/api/show")
        assert not one.seen("/api/generate")


async def test_lists_are_made_once_until_somebody_says_something_new() -> None:
    async with Ollama("llama3.2") as one, Ollama("phi4") as two, running(one.url, two.url) as proxy:
        await looked(proxy)
        (lists,) = [held for held in gc.get_objects() if isinstance(held, MergedLists) and held._pool is proxy.app.pool]
        await get(proxy, "/api/tags")
        first = lists._rendered["/api/tags"]
        await get(proxy, "/api/tags")
        assert lists._rendered["/api/tags"] is first
        await looked(proxy)
        await get(proxy, "/api/tags")
        assert lists._rendered["/api/tags"] is not first


async def test_hosts_that_are_drained_or_ejected_are_left_out_while_others_are_there() -> None:
    async with Ollama("llama3.2") as one, Ollama("phi4") as two, running(one.url, two.url) as proxy:
        await looked(proxy)
        first, second = proxy.app.pool.backends
        first.health.draining = True
        assert [entry["name"] for entry in (await get(proxy, "/api/tags"))["models"]] == ["phi4:latest"]
        second.health.eject(0.0, "reset")
        assert len((await get(proxy, "/api/tags"))["models"]) == 2


async def test_show_goes_to_a_host_that_has_the_model() -> None:
    async with Ollama("llama3.2") as one, Ollama("phi4") as two, running(one.url, two.url) as proxy:
        await looked(proxy)
        for _ in range(5):
            assert (await ask(proxy.address, "POST", "/api/show", {"model": "phi4"})).status == 200
        assert len(two.seen("/api/show")) == 5
        assert not one.seen("/api/show")


async def test_before_anybody_was_seen_a_backend_answers() -> None:
    async with Ollama("llama3.2") as one, Ollama("llama3.2") as two, running(one.url, two.url) as proxy:
        assert (await get(proxy, "/api/tags"))["models"]
        assert one.counters.requests + two.counters.requests == 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_clis_first_question(method: str) -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        reply = await ask(proxy.address, method, "/")
        assert reply.status == 200
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"
        assert reply.headers["content-length"] == "17"
