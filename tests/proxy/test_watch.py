"""proxy/watch.py."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.backend import Backend, make_backend
from proxy.health import Rules
from proxy.pool import Pool
from proxy.simulator import Ollama
from proxy.watch import Watch
from tests.support.backend import eventually

LLAMA = "registry.ollama.ai/library/llama3.2:latest"


@asynccontextmanager
async def watching(*sims: Ollama, every: float = 0.05) -> AsyncIterator[tuple[Pool, Watch]]:
    rules = Rules(down_after=2)
    pool = Pool([make_backend(f"b{n}", sim.url, rules=rules) for n, sim in enumerate(sims, 1)])
    watch = Watch(pool, every=every, timeout=0.3)
    try:
        yield pool, watch
    finally:
        await watch.stop()
        await pool.aclose()


async def until(backend: Backend, state: str) -> None:
    await eventually(lambda: backend.health.shown == state)


async def test_what_it_learns() -> None:
    async with Ollama("llama3.2", "qwen3", version="0.33.1") as sim, watching(sim) as (pool, watch):
        backend = pool.backends[0]
        await watch.look(backend)
        assert backend.version == "0.33.1"
        assert backend.has(LLAMA) is True
        assert backend.has("registry.ollama.ai/library/other:latest") is False
        assert not backend.resident
        assert backend.seen_at is not None
        assert backend.health.state == "up"


async def test_a_host_that_dies_is_down_and_comes_back() -> None:
    async with Ollama() as sim, watching(sim) as (pool, watch):
        watch.start()
        backend = pool.backends[0]
        await until(backend, "up")
        await sim.stop()
        await until(backend, "down")
        assert backend.health.reason
        await sim.start()
        await until(backend, "up")
        assert backend.health.reason == "answers again"


async def test_a_host_that_does_not_answer_in_time() -> None:
    async with Ollama() as sim, watching(sim) as (pool, watch):
        sim.fault("stall", times=None)
        await watch.look(pool.backends[0])
        assert pool.backends[0].health.state == "suspect"
        assert pool.backends[0].health.reason == "no answer within 0.3 s"
        sim.clear()


async def test_an_old_ollama_without_ps_is_up_all_the_same() -> None:
    async with Ollama() as sim, watching(sim) as (pool, watch):
        sim.fault("status", route="/api/ps", status=404, times=None)
        await watch.look(pool.backends[0])
        assert pool.backends[0].health.state == "up"


@pytest.mark.parametrize("body", [b'{"models":5}', b'{"models":[5,{},{"name":7},{"name":"?"}]}'])
async def test_odd_lists_are_read_for_what_they_are(body: bytes) -> None:
    async with Ollama() as sim, watching(sim) as (pool, watch):
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        sim.script(head, body, route="/api/tags", times=None)
        await watch.look(pool.backends[0])
        assert pool.backends[0].models == {}


async def test_a_refresh_asks_at_once_and_a_burst_only_once() -> None:
    async with Ollama() as sim, watching(sim, every=60.0) as (pool, watch):
        watch.start()
        await sim.wait_for(lambda: len(sim.seen("/api/ps")) == 1)
        for _ in range(100):
            pool.refresh(pool.backends[0])
        await sim.wait_for(lambda: len(sim.seen("/api/ps")) == 2)
        assert len(sim.seen("/api/ps")) == 2


async def test_whoever_waits_for_a_backend_hears_of_it() -> None:
    async with Ollama() as sim, watching(sim) as (pool, watch):
        heard = asyncio.Event()
        pool.on_free(heard.set)
        await watch.look(pool.backends[0])
        async with asyncio.timeout(5):
            await heard.wait()
        assert watch.oldest == pytest.approx(0.45)
