"""proxy/ops/app.py, over real sockets."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.ops.routes import OPERATIONS
from proxy.simulator import Ollama
from tests.support.proxy import Running, running
from tests.support.wire import Client, Reply, ask, request

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
LOCAL = {"Host": "localhost"}


def keys(folder: Path, **policies: str | None) -> dict[str, str]:
    """Write keys.yaml and return the keys by name."""
    made = {}
    for name, policy in policies.items():
        made[name], entry = new_key(name, now=0, policy=policy)
        add_key(folder / "keys.yaml", entry)
    return made


def guarded(sim: Ollama, folder: Path, **more: Any) -> Any:
    middleware = ["logging", {"auth": {"keys": "keys.yaml"}}, "access", "retry"]
    policies = {"operators": {"access": {"routes": ["read", "inference", "ops"]}}}
    return running(sim.url, middleware=middleware, policies=policies, folder=folder, **more)


async def get(proxy: Running, path: str, key: str | None = None) -> Reply:
    return await ask(proxy.address, "GET", path, headers={"Authorization": f"Bearer {key}"} if key else None)


async def test_health_is_open_and_says_whether_requests_can_be_served(tmp_path: Path) -> None:
    keys(tmp_path, alice=None)
    async with Ollama() as sim, guarded(sim, tmp_path) as proxy:
        assert (await get(proxy, "/-/healthz")).body == b'{"status":"ok"}'
        assert (await get(proxy, "/-/readyz")).status == 200
        proxy.app.pool.backends[0].health.draining = True
        reply = await get(proxy, "/-/readyz")
        assert (reply.status, json.loads(reply.body)["ready"]) == (503, False)
        proxy.app.pool.backends[0].health.draining = False
        proxy.app.server = proxy.server
        proxy.server.serving = False
        assert b"shutting down" in (await get(proxy, "/-/readyz")).body
        proxy.server.serving = True


async def test_every_route_asks_for_a_key_whose_policy_allows_ops_unless_it_is_open(tmp_path: Path) -> None:
    key = keys(tmp_path, alice=None, ops="operators")
    async with Ollama() as sim, guarded(sim, tmp_path) as proxy:
        for operation in OPERATIONS:
            path = operation.route.path.replace("{file}", "page.css").replace("{id}", "x").replace("{backend}", "b1")
            method = operation.route.methods[0]
            by_nobody = await ask(proxy.address, method, path)
            by_alice = await ask(proxy.address, method, path, headers={"Authorization": f"Bearer {key['alice']}"})
            if operation.route.open:
                assert by_nobody.status in (200, 307), path
                continue
            assert by_nobody.status == 401, path
            assert by_alice.status == 403, path
            if operation.name != "events":
                headers = {"Authorization": f"Bearer {key['ops']}"}
                by_ops = await ask(proxy.address, method, path, headers=headers)
                assert by_ops.status not in (401, 403, 405, 500), path


async def test_a_path_token_leads_to_the_page_too(tmp_path: Path) -> None:
    key = keys(tmp_path, ops="operators")["ops"]
    middleware = [{"auth": {"keys": "keys.yaml", "path_token": True}}, "access"]
    policies = {"operators": {"access": {"routes": ["ops"]}}}
    async with Ollama() as sim, running(sim.url, middleware=middleware, policies=policies, folder=tmp_path) as proxy:
        moved = await get(proxy, f"/k/{key}/-")
        assert (moved.status, moved.headers["location"]) == (307, "-/")
        status = await get(proxy, f"/k/{key}/-/status")
        assert status.status == 200
        assert key.encode() not in status.body


async def test_nothing_is_kept_embedded_or_loaded_from_elsewhere() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        for path in ("/-/", "/-/docs", "/-/assets/page.js", "/-/status", "/-/assets/none.js", "/-/openapi.json"):
            reply = await get(proxy, path)
            assert reply.headers["cache-control"] == "no-store", path
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert reply.headers["x-frame-options"] == "DENY"
            policy = reply.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in policy


async def test_pages_name_nothing_of_another_host_and_hold_no_script_or_style() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        for path in ("/-/", "/-/docs"):
            text = (await get(proxy, path)).body.decode()
            assert "://" not in text
            assert "<style" not in text
            assert "style=" not in text
            assert "onclick" not in text
            assert text.count("<script") == text.count('<script type="module" src="assets/')


@pytest.mark.parametrize("name", ["none.js", "../app.py", "..%2fapp.py", "page.css/x"])
async def test_only_the_parts_of_the_pages_are_files(name: str) -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        assert (await get(proxy, f"/-/assets/{name}")).status in (400, 404)


async def test_metrics_are_told() -> None:
    async with Ollama() as sim, running(sim.url, middleware=["metrics"]) as proxy:
        await ask(proxy.address, "POST", "/api/chat", CHAT)
        reply = await get(proxy, "/-/metrics")
        assert reply.headers["content-type"].startswith("text/plain")
        assert b"ollama_proxy_requests_total{" in reply.body


async def test_the_configuration_is_shown_without_secrets(tmp_path: Path) -> None:
    async with (
        Ollama() as sim,
        running(
            {"name": "gpu", "url": sim.url, "headers": {"Authorization": "Bearer canary"}}, store="memory"
        ) as proxy,
    ):
        reply = await get(proxy, "/-/config")
        assert b"canary" not in reply.body
        assert json.loads(reply.body)["settings"]["backends"][0]["name"] == "gpu"


async def test_explain_asks_each_plugin(tmp_path: Path) -> None:
    key = keys(tmp_path, alice=None, ops="operators")
    async with Ollama() as sim, guarded(sim, tmp_path) as proxy:
        headers = {"Authorization": f"Bearer {key['ops']}"}
        question = {"method": "DELETE", "path": "/api/delete", "as": "alice", "model": "llama3.2"}
        reply = await ask(proxy.address, "POST", "/-/explain", question, headers)
        account = json.loads(reply.body)
        assert account["identity"] == "alice"
        assert [(step["name"], step["verdict"]) for step in account["steps"]][-1] == ("access", "refuse")
        assert sim.requests == type(sim.requests)()
        for bad in ({"path": "/x"}, {"method": "GET", "path": "/", "who": "x"}, {"method": "GET", "path": 1}):
            assert (await ask(proxy.address, "POST", "/-/explain", bad, headers)).status == 400


async def test_a_listener_of_its_own_answers_nothing_else_and_takes_the_routes_from_the_others() -> None:
    async with Ollama() as sim, running(sim.url, ops={"listen": "127.0.0.1:0"}) as proxy:
        assert proxy.app.ops_server is not None
        host, _, port = proxy.app.ops_server.addresses[0].rpartition(":")
        ops = (host, int(port))
        assert (await ask(proxy.address, "GET", "/-/healthz")).status == 200
        assert (await ask(proxy.address, "GET", "/-/readyz")).status == 200
        for path in ("/-/", "/-/status", "/-/metrics", "/-/openapi.json", "/-/assets/page.js"):
            assert (await ask(proxy.address, "GET", path)).status == 404, path
            assert (await ask(ops, "GET", path)).status == 200, path
        assert (await ask(proxy.address, "POST", "/-/drain/b1", headers=LOCAL)).status == 404
        assert (await ask(ops, "POST", "/-/drain/b1", headers=LOCAL)).status == 200
        for path in ("/", "/api/tags", "/v1/models"):
            assert (await ask(ops, "GET", path)).status == 404, path
        assert (await ask(ops, "POST", "/api/chat", CHAT)).status == 404
        status = json.loads((await ask(ops, "GET", "/-/status")).body)
        assert status["backends"][0]["state"] == "draining"


async def test_events_come_as_they_happen_and_end_with_the_client() -> None:
    async with Ollama(tokens=3) as sim, running(sim.url) as proxy:
        client = await Client.connect(proxy.address)
        await client.send(request("GET", "/-/events"))
        head = await client.read_head()
        assert head.headers["content-type"] == "text/event-stream"
        assert (await client.read_chunk()).startswith(b"event: status\n")
        await ask(proxy.address, "POST", "/api/chat", CHAT)
        names: list[bytes] = []
        async with asyncio.timeout(10):
            while b"finished" not in names:
                chunk = await client.read_chunk()
                names += [line[7:] for line in chunk.splitlines() if line.startswith(b"event: ")]
        assert [name for name in names if name != b"tick"][:3] == [b"started", b"answered", b"finished"]
        await client.close()
        await proxy.log.wait_for(lambda log: any(line["route"] == "/-/events" for line in log.requests))
        assert "0 listeners" in repr(proxy.app.ops.hub)
