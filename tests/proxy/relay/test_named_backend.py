"""proxy/relay/named_backend.py."""

import asyncio

import ollama
import orjson
import pytest

from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.proxy import running
from tests.support.wire import Client, ask, request

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
        assert reply.headers["x-accel-buffering"] == "no"
        lines = [orjson.loads(line) for line in reply.body.splitlines()]
        assert {line.get("backend") for line in lines[:-1]} == {"b1", "b2"}
        assert lines[-1] == {"status": "success"}
        assert (await proxy.log.request())["error_code"] is None
        assert sum(line.get("status") == "success" for line in lines) == 1
        for sim in (one, two):
            assert len(sim.seen("/api/pull")) == 1
        client = ollama.AsyncClient(f"{proxy.url}/-/backends/all")
        assert [part.status async for part in await client.pull("phi4", stream=True)][-1] == "success"
        await client._client.aclose()


async def test_a_pull_for_all_has_no_status_before_its_first_line() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        stalls = [sim.fault("stall", route="/api/pull") for sim in (one, two)]
        pull = asyncio.create_task(ask(proxy.address, "POST", "/-/backends/all/api/pull", PULL))
        await eventually(lambda: all(stall.hits for stall in stalls))
        (exchange,) = proxy.app.frame.live
        assert exchange.status is None
        for stall in stalls:
            stall.release()
        assert (await pull).clean


async def test_a_pull_for_all_fails_when_one_does() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        two.fault("reset", route="/api/pull", after=2)
        reply = await ask(proxy.address, "POST", "/-/backends/all/api/pull", PULL)
        last = orjson.loads(reply.body.splitlines()[-1])
        assert last["error"].startswith("b2: ")
        line = await proxy.log.request()
        assert (line["status"], line["error_code"]) == (200, last["code"]) == (200, "pull_failed")
        await two.stop()
        reply = await ask(proxy.address, "POST", "/-/backends/all/api/pull", PULL)
        assert "b2" in orjson.loads(reply.body.splitlines()[-1])["error"]


async def test_a_pull_for_all_without_progress_is_one_answer() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        client = ollama.AsyncClient(f"{proxy.url}/-/backends/all")
        assert (await client.pull("phi4")).status == "success"
        await client._client.aclose()
        two.fault("status", status=500, message="disk full", route="/api/pull")
        reply = await ask(proxy.address, "POST", "/-/backends/all/api/pull", {**PULL, "stream": False})
        assert reply.status == 500
        assert reply.headers["content-type"] == "application/json; charset=utf-8"
        assert orjson.loads(reply.body)["error"] == "b2: disk full"
        line = await proxy.log.request(2)
        assert (line["backend"], line["status"], line["error_code"]) == ("all", 500, "pull_failed")


async def test_the_stock_client_pulls_everywhere_and_asks_everything_else_anywhere() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        client = ollama.AsyncClient(f"{proxy.url}/-/backends/all")
        assert (await client.list()).models
        assert (await client.show("llama3.2")).details
        assert (await client.generate("llama3.2", "hi")).response
        assert (await ask(proxy.address, "HEAD", "/-/backends/all/")).status == 200
        await client._client.aclose()


async def test_a_pull_for_all_goes_on_while_its_backend_is_taken_out() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        pool = proxy.app.pool
        held = two.fault("stall", route="/api/pull", after=1)
        pull = asyncio.create_task(ask(proxy.address, "POST", "/-/backends/all/api/pull", PULL))
        await two.wait_for(lambda: held.hits == 1)
        _, gone = pool.backends
        pool.replace(pool.backends[:1], pool.options)
        await pool.close_retired()
        held.release()
        assert orjson.loads((await pull).body.splitlines()[-1]) == {"status": "success"}
        assert gone.leases == 0


async def test_who_leaves_during_a_pull_for_all_stops_it_everywhere() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        held = [sim.fault("stall", route="/api/pull", after=1) for sim in (one, two)]
        client = await Client.connect(proxy.address)
        await client.send(request("POST", "/-/backends/all/api/pull", PULL))
        for sim, fault in zip((one, two), held, strict=True):
            await sim.wait_for(lambda fault=fault: fault.hits)  # type: ignore[misc]
        client.hang_up()
        for sim in (one, two):
            await sim.wait_for(lambda sim=sim: sim.counters.connections_open == 0)  # type: ignore[misc]
        await proxy.log.request()
        assert [backend.leases for backend in proxy.app.pool.backends] == [0, 0]


async def test_full_slots_are_in_nobodys_way_who_runs_no_model() -> None:
    async with Ollama() as sim, running({"name": "b1", "url": sim.url, "slots": 1}) as proxy:
        held = sim.fault("stall", route="/api/chat")
        chat = asyncio.create_task(ask(proxy.address, "POST", "/api/chat", {"model": "llama3.2"}))
        await sim.wait_for(lambda: held.hits == 1)
        assert (await ask(proxy.address, "POST", "/api/pull", PULL)).clean
        assert (await ask(proxy.address, "POST", "/api/show", PULL)).status == 200
        assert (await ask(proxy.address, "POST", "/api/chat", {"model": "llama3.2"})).status == 503
        held.release()
        assert (await chat).clean


async def test_only_a_pull_can_be_for_all() -> None:
    async with Ollama() as one, Ollama() as two, running(one.url, two.url) as proxy:
        reply = await ask(proxy.address, "DELETE", "/-/backends/all/api/delete", {"model": "llama3.2"})
        assert reply.status == 409
        assert one.counters.requests + two.counters.requests == 0
