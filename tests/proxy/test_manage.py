"""proxy/manage.py."""

import ollama
import orjson
import pytest

from proxy.simulator import Ollama
from tests.support.proxy import running
from tests.support.wire import ask

PULL = {"model": "phi4"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/pull"),
        ("POST", "/api/push"),
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/blobs/sha256:00"),
        ("HEAD", "/api/blobs/sha256:00"),
        ("POST", "/api/signout"),
    ],
)
async def test_what_changes_one_of_several_must_say_which(method: str, path: str) -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        reply = await ask(proxy.address, method, path, b"{}" if method != "HEAD" else None)
        assert reply.status == 409
        if method != "HEAD":
            assert f"/-/backends/b1{path}" in reply.body.decode()
        assert one.counters.requests + two.counters.requests == 0


async def test_the_stock_client_pulls_to_the_one_its_host_names() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        client = ollama.AsyncClient(f"{proxy.url}/-/backends/b2")
        assert [part.status async for part in await client.pull("phi4", stream=True)][-1] == "success"
        assert (await client.show("phi4")).details
        await client._client.aclose()
        assert two.seen("/api/pull")
        assert one.counters.requests == 0


async def test_blobs_and_create_go_to_the_same_host() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        headers = {"X-Ollama-Backend": "b1"}
        digest = "/api/blobs/sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        assert (await ask(proxy.address, "POST", digest, b"hello", headers)).status == 201
        assert (await ask(proxy.address, "HEAD", digest, headers=headers)).status == 200
        body = {"model": "mine", "from": "llama3.2"}
        assert (await ask(proxy.address, "POST", "/api/create", body, headers)).clean
        assert two.counters.requests == 0


async def test_a_pull_for_all_is_one_stream_of_valid_lines() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        reply = await ask(proxy.address, "POST", "/-/backends/all/api/pull", PULL)
        assert reply.clean
        lines = [orjson.loads(line) for line in reply.body.splitlines()]
        assert {line.get("backend") for line in lines[:-1]} == {"b1", "b2"}
        assert lines[-1] == {"status": "success"}
        assert sum(line.get("status") == "success" for line in lines) == 1
        for sim in (one, two):
            assert len(sim.seen("/api/pull")) == 1
        client = ollama.AsyncClient(f"{proxy.url}/-/backends/all")
        assert [part.status async for part in await client.pull("phi4", stream=True)][-1] == "success"
        await client._client.aclose()


async def test_a_pull_for_all_fails_when_one_does() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        two.fault("reset", route="/api/pull", after=2)
        reply = await ask(proxy.address, "POST", "/-/backends/all/api/pull", PULL)
        last = orjson.loads(reply.body.splitlines()[-1])
        assert last["error"].startswith("b2: ")
        await two.stop()
        reply = await ask(proxy.address, "POST", "/-/backends/all/api/pull", PULL)
        assert "b2" in orjson.loads(reply.body.splitlines()[-1])["error"]


async def test_only_a_pull_can_be_for_all() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        reply = await ask(proxy.address, "DELETE", "/-/backends/all/api/delete", {"model": "llama3.2"})
        assert reply.status == 409
        assert one.counters.requests + two.counters.requests == 0
