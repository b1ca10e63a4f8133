"""proxy/ops/actions.py: what an operator does, seen from clients and backends."""

import asyncio
import json
from typing import Any

import pytest

from proxy.ops.app_protocol import Loading
from proxy.reload import Reloaded
from proxy.simulator import Ollama
from tests.support.proxy import Running, running
from tests.support.wire import Client, Reply, ask, request

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": True}
OPENAI = {**CHAT, "model": "llama3.2"}
LOCAL = {"Host": "localhost"}


async def post(proxy: Running, path: str) -> Reply:
    return await ask(proxy.address, "POST", path, headers=LOCAL)


async def rest_of(client: Client) -> list[bytes]:
    """Return the chunks that are left of an answer which is cut."""
    chunks: list[bytes] = []
    try:
        while True:
            chunks.append(await client.read_chunk())
            assert chunks[-1], "the answer ended well"
    except asyncio.IncompleteReadError:
        return chunks


async def running_id(proxy: Running) -> str:
    status = json.loads((await ask(proxy.address, "GET", "/-/status")).body)
    return str(status["requests"][0]["id"])


@pytest.mark.parametrize(
    ("path", "record"),
    [
        ("/api/chat", b'{"error":"an operator cancelled this request","code":"cancelled"}\n'),
        ("/v1/chat/completions", b'data: {"error":{"message":"an operator cancelled this request"'),
        ("/v1/messages", b'event: error\ndata: {"type":"error","error":'),
    ],
)
async def test_a_stream_that_is_cancelled_says_so_and_never_ends_well(path: str, record: bytes) -> None:
    async with Ollama(tokens=1000, token_delay=0.01) as sim, running(sim.url) as proxy:
        client = await Client.connect(proxy.address)
        await client.send(request("POST", path, {**CHAT, "max_tokens": 1000}))
        await client.read_head()
        for _ in range(12):
            await client.read_chunk()
        reply = await post(proxy, f"/-/cancel/{await running_id(proxy)}")
        assert reply.status == 200
        await sim.wait_for(lambda: sim.counters.active == 0, timeout=1)
        rest = await rest_of(client)
        await client.close()
        assert rest[-1].startswith(record)
        line = next(line for line in proxy.log.requests if line["route"] == path)
        assert (line["outcome"], line["error_code"], line["level"]) == ("cancelled", "cancelled", "warning")
        assert line["tokens_out"] > 0
        assert proxy.app.pool.backends[0].active == 0


async def test_before_its_answer_a_cancelled_request_gets_499_which_clients_do_not_repeat() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        stall = sim.fault("stall", route="/api/chat")
        client = await Client.connect(proxy.address)
        await client.send(request("POST", "/api/chat", CHAT))
        await sim.wait_for(lambda: sim.counters.requests == 1)
        assert (await post(proxy, f"/-/cancel/{await running_id(proxy)}")).status == 200
        reply = await client.read()
        await client.close()
        assert (reply.status, reply.clean) == (499, True)
        assert json.loads(reply.body) == {"error": "an operator cancelled this request", "code": "cancelled"}
        assert sim.counters.requests == 1
        await sim.wait_for(lambda: sim.counters.connections_open == 0)
        stall.release()


async def test_one_that_waits_in_the_queue_is_cancelled_there() -> None:
    async with (
        Ollama(tokens=1000, token_delay=0.01) as sim,
        running({"name": "b1", "url": sim.url, "slots": 1}, middleware=["logging", "queue"]) as proxy,
    ):
        first, second = await Client.connect(proxy.address), await Client.connect(proxy.address)
        await first.send(request("POST", "/api/chat", CHAT))
        await first.read_head()
        await second.send(request("POST", "/api/chat", CHAT))
        while True:
            status = json.loads((await ask(proxy.address, "GET", "/-/status")).body)
            if status["queue"]["waiting"]:
                break
        waiting = next(found for found in status["requests"] if found["state"] == "queued")
        assert status["queue"]["tenants"][0]["waiting"] == 1
        await post(proxy, f"/-/cancel/{waiting['id']}")
        assert (await second.read()).status == 499
        assert sim.counters.requests == 1
        assert not proxy.app.scheduler.status().waiting
        await first.close()
        await second.close()


async def test_only_what_runs_can_be_cancelled() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        done = await ask(proxy.address, "POST", "/api/chat", CHAT)
        for request_id in (done.headers["x-request-id"], "none"):
            assert (await post(proxy, f"/-/cancel/{request_id}")).status == 404


async def test_a_drained_backend_gets_nothing_new_and_ends_what_it_runs() -> None:
    async with Ollama(tokens=5, token_delay=0.01) as one, Ollama() as two, running(one.url, two.url) as proxy:
        client = await Client.connect(proxy.address)
        await client.send(request("POST", "/-/backends/b1/api/chat", CHAT))
        await client.read_head()
        reply = await post(proxy, "/-/drain/b1")
        assert json.loads(reply.body) == {"done": "drained b1, which still runs 1 requests"}
        for _ in range(4):
            assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).clean
        assert (one.counters.requests, two.counters.requests) == (1, 4)
        while await client.read_chunk():
            pass
        await client.close()
        await post(proxy, "/-/undrain/b1")
        await post(proxy, "/-/drain/b2")
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).clean
        assert one.counters.requests == 2
        events = [(event["event"], event["backend"], event["by"]) for event in proxy.log.events if "by" in event]
        assert events == [
            ("backend_drained", "b1", "127.0.0.1"),
            ("backend_undrained", "b1", "127.0.0.1"),
            ("backend_drained", "b2", "127.0.0.1"),
        ]


async def test_a_model_is_unloaded_at_the_backend() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        await ask(proxy.address, "POST", "/api/chat", CHAT)
        assert sim.engine.loaded
        reply = await post(proxy, "/-/unload/b1?model=llama3.2")
        assert json.loads(reply.body) == {"done": "unloaded llama3.2:latest from b1"}
        await sim.wait_for(lambda: not sim.engine.loaded)


async def test_what_cannot_be_done_is_said() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        assert (await post(proxy, "/-/drain/none")).status == 404
        assert b"there are b1" in (await post(proxy, "/-/undrain/none")).body
        assert (await post(proxy, "/-/unload/b1")).status == 400
        reply = await post(proxy, "/-/unload/b1?model=nonesuch")
        assert (reply.status, b"did not unload it" in reply.body) == (502, True)
        await sim.stop()
        assert (await post(proxy, "/-/unload/b1?model=llama3.2")).status == 502
        assert (await post(proxy, "/-/reload")).status == 409


class Loader:
    """Stands in for the reloader of a process."""

    def __init__(self, *problems: str) -> None:
        self.last: Loading = Reloaded(0.0, 1)
        self._next = Reloaded(0.0, 2, problems)

    async def ask(self) -> Loading:
        self.last = self._next
        return self.last


async def test_a_reload_says_what_came_of_it() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        proxy.app.reloader = Loader()
        reply = await post(proxy, "/-/reload")
        assert (reply.status, json.loads(reply.body)) == (200, {"generation": 2, "problems": [], "restart": []})
        proxy.app.reloader = Loader("proxy.yaml:1:1: bad")
        reply = await post(proxy, "/-/reload")
        assert (reply.status, json.loads(reply.body)["problems"]) == (422, ["proxy.yaml:1:1: bad"])
        status = json.loads((await ask(proxy.address, "GET", "/-/status")).body)
        assert status["config"]["problems"] == ["proxy.yaml:1:1: bad"]


async def test_who_changes_something_is_known_or_at_this_machine() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        for headers in (
            {"Host": "proxy.example.com"},
            {"Host": "localhost", "X-Forwarded-For": "192.0.2.1"},
            {"Host": "localhost", "Sec-Fetch-Site": "cross-site"},
            {"Host": "localhost", "Origin": "https://evil.example.com"},
        ):
            assert (await ask(proxy.address, "POST", "/-/drain/b1", headers=headers)).status == 403, headers
        same = {"Host": "localhost", "Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
        assert (await ask(proxy.address, "POST", "/-/drain/b1", headers=same)).status == 200
