"""Batches of proxies that are killed: nothing is lost, and nothing is in the results twice."""

import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pytest

from proxy.simulator import Ollama
from tests.live.test_sdk_batches import CHAT, begun, ended, jsonl, line, read
from tests.support.process import Process, free_port
from tests.support.redis import redis_server

HOMES = ["sqlite", "redis"]
LINES = 40
SOON_LOST = "from proxy.deferred import runner; runner.LOST_AFTER = 1.0; runner.LOOK = 0.5"
"""Has a proxy take over sooner what another one ran that was killed."""


@pytest.fixture(params=HOMES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path}/state.db"
        return
    with redis_server() as redis:
        yield redis.url


def policy(sim: Ollama, store: str, port: int) -> dict[str, Any]:
    return {
        "listen": f"127.0.0.1:{port}",
        "store": store,
        "backends": [{"name": "b1", "url": sim.url, "slots": 2}],
        "middleware": ["logging", {"defer": {"batches": {"at_once": 8}}}, "queue", "retry"],
    }


started = partial(Process.started, first=SOON_LOST)


def client_of(proxy: Process) -> openai.AsyncOpenAI:
    host, port = proxy.address
    return openai.AsyncOpenAI(base_url=f"http://{host}:{port}/v1", api_key="ollama", max_retries=0)


@pytest.mark.timeout(120)
async def test_a_batch_goes_on_where_its_proxy_was_killed(store: str, tmp_path: Path) -> None:
    data = jsonl(*(line(f"q{number}") for number in range(LINES)))
    async with Ollama(tokens=3, token_delay=0.005) as sim:
        settings = policy(sim, store, free_port())
        async with started(tmp_path / "a.yaml", settings) as proxy, client_of(proxy) as client:
            batch = await begun(client, data)
            await sim.wait_for(lambda: sim.counters.by_route[CHAT] >= LINES // 2)
            os.kill(proxy.process.pid, signal.SIGKILL)
            await proxy.process.communicate()
        async with started(tmp_path / "a.yaml", settings) as proxy, client_of(proxy) as client:
            done = await ended(client, batch.id)
            assert (done.status, done.error_file_id) == ("completed", None)
            assert done.request_counts is not None
            assert done.request_counts.completed == LINES
            assert done.output_file_id is not None
            content = (await client.files.content(done.output_file_id)).content
            assert [json.loads(text)["custom_id"] for text in content.splitlines()] == [f"q{n}" for n in range(LINES)]
        assert sim.counters.by_route[CHAT] <= LINES + 2 + 1  # what ran when it was killed runs once more


@pytest.mark.timeout(120)
async def test_a_response_goes_on_where_its_proxy_was_killed(store: str, tmp_path: Path) -> None:
    async with Ollama(tokens=20, token_delay=0.02) as sim:
        settings = policy(sim, store, free_port())
        async with started(tmp_path / "a.yaml", settings) as proxy, client_of(proxy) as client:
            made = [await client.responses.create(model="llama3.2", input="hi", background=True) for _ in range(5)]
            os.kill(proxy.process.pid, signal.SIGKILL)
            await proxy.process.communicate()
        async with started(tmp_path / "a.yaml", settings) as proxy, client_of(proxy) as client:
            for response in made:
                events = [event async for event in await client.responses.retrieve(response.id, stream=True)]
                assert events[-1].type == "response.completed"
                assert (await client.responses.retrieve(response.id)).id == response.id


@pytest.mark.timeout(120)
async def test_two_proxies_end_one_batch_once(tmp_path: Path) -> None:
    data = jsonl(*(line(f"q{number}") for number in range(LINES)))
    with redis_server() as redis:
        async with Ollama(tokens=3, token_delay=0.005) as sim:
            first, second = (policy(sim, redis.url, free_port()) for _ in range(2))
            async with (
                Process.started(tmp_path / "a.yaml", first) as one,
                Process.started(tmp_path / "b.yaml", second) as two,
                client_of(one) as client,
                client_of(two) as other,
            ):
                batch = await begun(client, data)
                done = await ended(other, batch.id)
                assert done.status == "completed"
                assert done.output_file_id is not None
                results = (await client.files.content(done.output_file_id)).content
                assert len(results.splitlines()) == LINES
                assert len(read(results)) == LINES
            assert sim.counters.by_route[CHAT] == LINES
