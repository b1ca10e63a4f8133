"""Requests that run later, where something fails or changes before they have run."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from config.load import load_bytes
from middleware.auth.key_file_editor import add_key, revoke_keys
from middleware.auth.keys import new_key
from proxy.deferred import verdict
from proxy.kernel.journal import Entry
from proxy.simulator import Ollama
from proxy.testing import TemporaryProxy, temporary_proxy
from tests.support.backend import eventually
from tests.support.process import Process
from tests.support.proxy import running
from tests.support.tenants import BELIEVE
from tests.support.wire import ask

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
CHAIN: list[object] = ["logging", "defer", "queue", "retry"]


def backend(ollama: Ollama, slots: int = 1) -> dict[str, Any]:
    return {"name": "b1", "url": ollama.url, "slots": slots}


async def accept(proxy: TemporaryProxy, headers: dict[str, str] | None = None, **more: Any) -> str:
    """Have a request accepted; return its id."""
    headers = {"Prefer": "respond-async", **(headers or {})}
    reply = await ask(proxy.address, "POST", "/api/chat", {**CHAT, **more}, headers)
    assert reply.status == 202, reply.body
    return reply.headers["location"].rpartition("/")[2]


async def over(proxy: TemporaryProxy, name: str) -> Entry:
    """Wait until an entry is over."""
    async with asyncio.timeout(20):
        entry = await proxy.app.journal.wait_for_change(name, 2**62, 20)
    assert entry is not None
    assert entry.over
    return entry


# Who called


async def test_a_key_that_was_revoked_meanwhile(tmp_path: Path) -> None:
    key, entry = new_key("alice", now=0.0)
    add_key(tmp_path / "keys.yaml", entry)
    bearer = {"Authorization": f"Bearer {key}"}
    chain: list[object] = ["logging", {"auth": {"keys": "keys.yaml"}}, "defer", "queue", "retry"]
    async with Ollama() as ollama, running(backend(ollama), middleware=chain, folder=tmp_path) as proxy:
        proxy.app.runner.use(None)
        name = await accept(proxy, bearer)
        revoke_keys(tmp_path / "keys.yaml", "alice")
        while (await ask(proxy.address, "GET", "/api/version", headers=bearer)).status != 401:
            pass
        proxy.app.reload(proxy.app.plan.loaded)
        ended = await over(proxy, name)
        assert (ended.state, ended.status) == ("failed", 401)
        assert (ended.error or "").startswith("revoked: ")
        assert not [one for one in ollama.requests if one.path == "/api/chat"]


async def test_a_key_that_was_replaced_by_one_of_the_same_name(tmp_path: Path) -> None:
    key, entry = new_key("alice", now=0.0)
    add_key(tmp_path / "keys.yaml", entry)
    chain: list[object] = ["logging", {"auth": {"keys": "keys.yaml"}}, "defer", "queue", "retry"]
    async with Ollama() as ollama, running(backend(ollama), middleware=chain, folder=tmp_path) as proxy:
        proxy.app.runner.use(None)
        name = await accept(proxy, {"Authorization": f"Bearer {key}"})
        revoke_keys(tmp_path / "keys.yaml", "alice")
        other, entry = new_key("alice", now=0.0)
        add_key(tmp_path / "keys.yaml", entry)
        bearer = {"Authorization": f"Bearer {other}"}
        while (await ask(proxy.address, "GET", "/api/version", headers=bearer)).status != 200:
            pass
        proxy.app.reload(proxy.app.plan.loaded)
        assert (await over(proxy, name)).state == "completed"
        answer = await ask(proxy.address, "GET", f"/-/requests/{name}/answer", headers=bearer)
        assert b'"done":true' in answer.body


async def test_a_policy_that_was_changed_meanwhile() -> None:
    async with Ollama() as ollama:
        settings: dict[str, Any] = {
            "listen": "127.0.0.1:0",
            "backends": [backend(ollama)],
            "middleware": ["logging", {"use": BELIEVE}, "access", "defer", "queue", "retry"],
            "policies": {"team": {"access": {"models": ["llama3.2"]}}},
        }
        async with temporary_proxy(yaml.safe_dump(settings), listen=None, probes=False) as proxy:
            proxy.app.runner.use(None)
            name = await accept(proxy, {"policy": "team", "identity": "alice"})
            settings["policies"]["team"]["access"]["models"] = ["qwen3"]
            proxy.app.reload(load_bytes(yaml.safe_dump(settings).encode(), file="proxy.yaml", folder=Path.cwd()))
            ended = await over(proxy, name)
            assert (ended.state, ended.status) == ("failed", 403)
            assert (ended.error or "").startswith("model_not_allowed: ")
            shown = await ask(
                proxy.address, "GET", f"/-/requests/{name}/answer", headers={"identity": "alice", "policy": "team"}
            )
            assert (shown.status, orjson.loads(shown.body)["code"]) == (403, "model_not_allowed")


# Hosts


async def test_a_host_that_is_away_costs_no_attempt_until_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "LATER", 0.5)
    async with Ollama() as ollama, running(backend(ollama), middleware=CHAIN, watched=True) as proxy:
        await ollama.refuse()
        ollama.drop()
        await eventually(lambda: proxy.app.pool.backends[0].health.shown == "down")
        name = await accept(proxy)
        await proxy.log.wait_for(lambda log: any(line["status"] == 502 for line in log.requests))
        await eventually(lambda: proxy.app.runner.running == 0)
        waiting = await proxy.app.journal.get(name)
        assert waiting is not None
        assert (waiting.state, waiting.attempts) == ("queued", 0)
        await ollama.accept()
        ended = await over(proxy, name)
        assert (ended.state, ended.attempts) == ("completed", 1)


async def test_what_fails_as_often_as_it_may_is_dead_and_has_the_error_for_its_answer() -> None:
    chain: list[object] = ["logging", {"defer": {"attempts": 2}}, "queue"]
    async with Ollama() as ollama, running(backend(ollama), middleware=chain) as proxy:
        ollama.fault("reset", "/api/chat", times=None)
        name = await accept(proxy)
        ended = await over(proxy, name)
        assert (ended.state, ended.attempts, ended.status) == ("dead", 2, 502)
        shown = await ask(proxy.address, "GET", f"/-/requests/{name}/answer")
        assert (shown.status, shown.headers["x-error-code"]) == (502, "upstream_connection_lost")
        assert [line for line in proxy.log.events if line["event"] == "deferred_dead"]


async def test_a_stream_that_breaks_ends_honestly() -> None:
    async with Ollama(tokens=100, token_delay=0.01) as ollama, running(backend(ollama), middleware=CHAIN) as proxy:
        name = await accept(proxy)
        await proxy.app.journal.wait_for_change(name, 0, 10)
        ollama.drop()
        ended = await over(proxy, name)
        assert ended.state == "failed"
        assert (ended.error or "").startswith("upstream_")
        shown = await ask(proxy.address, "GET", f"/-/requests/{name}/answer")
        assert (shown.status, shown.clean, len(shown.body)) == (200, False, ended.recorded)


# Processes


async def test_a_process_that_stops_queues_again_what_has_not_begun() -> None:
    async with Ollama(prompt_delay=5.0) as ollama, running(backend(ollama), middleware=CHAIN) as proxy:
        name = await accept(proxy)
        await eventually(lambda: ollama.counters.active == 1)
        await proxy.app.runner.stop(0.0)
        entry = await proxy.app.journal.get(name)
        assert entry is not None
        assert (entry.state, entry.attempts) == ("queued", 0)
        await eventually(lambda: ollama.counters.active == 0)


async def test_a_process_that_stops_lets_finish_what_can() -> None:
    async with Ollama(tokens=20, token_delay=0.01) as ollama, running(backend(ollama), middleware=CHAIN) as proxy:
        first, second = await accept(proxy), await accept(proxy)
        await proxy.app.journal.wait_for_change(first, 0, 10)
        await proxy.app.runner.stop(10.0)
        states = [entry.state for name in (first, second) if (entry := await proxy.app.journal.get(name)) is not None]
        assert states == ["completed", "queued"]


async def test_whom_another_process_has_replaced_writes_nothing_more() -> None:
    async with Ollama(tokens=50, token_delay=0.01) as ollama, running(backend(ollama, 2), middleware=CHAIN) as proxy:
        name = await accept(proxy)
        await eventually(lambda: ollama.counters.generating == 1)
        claim = await proxy.app.journal.claim("another", attempts=3, lost_after=0.0)
        assert claim is not None
        assert claim.fence == 2
        await eventually(lambda: proxy.app.runner.running == 0)  # it was fenced, and has stopped the generation
        assert ollama.requests[0].state == "cancelled"
        await proxy.app.journal.release(claim)
        assert (await over(proxy, name)).state == "completed"


async def test_one_models_backlog_does_not_stop_the_others() -> None:
    async with Ollama("llama3.2", tokens=2000, token_delay=0.02) as full, Ollama("qwen3") as free:
        backends = [
            {"name": "full", "url": full.url, "slots": 1},
            {"name": "free", "url": free.url, "slots": 1},
        ]
        async with running(*backends, middleware=CHAIN, watched=True) as proxy:
            for _ in range(6):
                await accept(proxy)
            await eventually(lambda: full.counters.generating == 1)
            name = await accept(proxy, model="qwen3", messages=[])
            assert (await over(proxy, name)).state == "completed"


def durable(ollama: Ollama, folder: Path) -> dict[str, Any]:
    return {
        "listen": "127.0.0.1:0",
        "store": f"sqlite:{folder / 'state.db'}",
        "backends": [{"name": "b1", "url": ollama.url, "slots": 2}],
        "middleware": CHAIN,
    }


async def test_a_proxy_that_is_killed_behind_each_202_has_lost_none(tmp_path: Path) -> None:
    """Three times over, each time with what was accepted before; a request that ran when it died runs again."""
    async with Ollama(tokens=3, record=1000) as ollama:
        names: list[str] = []
        for _ in range(3):
            async with Process.started(tmp_path / "proxy.yaml", durable(ollama, tmp_path)) as proxy:
                for _ in range(15):
                    body = {**CHAT, "messages": [{"role": "user", "content": str(len(names))}]}
                    reply = await ask(proxy.address, "POST", "/api/chat", body, {"Prefer": "respond-async"})
                    assert reply.status == 202
                    names.append(reply.headers["location"])
                proxy.process.kill()
                await proxy.process.wait()
        async with Process.started(tmp_path / "proxy.yaml", durable(ollama, tmp_path)) as proxy:
            for name in names:
                answer = await ask(proxy.address, "GET", f"{name}/answer", headers={"Prefer": "wait=20"})
                assert (answer.status, answer.clean) == (200, True)
                assert answer.body.count(b'"done":true') == 1
            await proxy.stop()
        asked = {orjson.loads(one.body)["messages"][0]["content"] for one in ollama.requests if one.path == "/api/chat"}
        assert asked == {str(number) for number in range(45)}


async def test_a_proxy_that_is_told_to_stop_finishes_what_runs_and_keeps_the_rest(tmp_path: Path) -> None:
    async with Ollama(tokens=30, token_delay=0.01, num_parallel=2) as ollama:
        async with Process.started(tmp_path / "proxy.yaml", durable(ollama, tmp_path)) as proxy:
            names = []
            for _ in range(4):
                reply = await ask(proxy.address, "POST", "/api/chat", CHAT, {"Prefer": "respond-async"})
                names.append(reply.headers["location"])
            await eventually(lambda: ollama.counters.generating > 0)
            await proxy.stop()
        assert {one.state for one in ollama.requests if one.path == "/api/chat"} == {"done"}
        async with Process.started(tmp_path / "proxy.yaml", durable(ollama, tmp_path)) as proxy:
            for name in names:
                answer = await ask(proxy.address, "GET", f"{name}/answer", headers={"Prefer": "wait=20"})
                assert answer.body.count(b'"done":true') == 1
            await proxy.stop()
        assert len([one for one in ollama.requests if one.path == "/api/chat"]) == 4  # none twice
