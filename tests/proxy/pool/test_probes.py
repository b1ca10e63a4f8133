"""proxy/pool/probes.py."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic

import pytest

from proxy.pool.backend import Backend
from proxy.pool.pool import Pool
from proxy.pool.probes import Probes
from proxy.pool.residency import Resident
from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.options import health_rules, make_backend, make_pool, pool_options

LLAMA = "registry.ollama.ai/library/llama3.2:latest"


@asynccontextmanager
async def watching(*sims: Ollama, every: float = 0.05) -> AsyncIterator[tuple[Pool, Probes]]:
    rules = health_rules(down_after=2)
    pool = make_pool([make_backend(f"b{n}", sim.url, rules=rules) for n, sim in enumerate(sims, 1)])
    watch = Probes(pool, every=every, timeout=0.3)
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


async def test_one_that_is_killed_is_known_to_be_down_within_the_interval() -> None:
    every = 5.0
    async with Ollama() as sim, watching(sim, every=every) as (pool, watch):
        watch.start()
        await sim.wait_for(lambda: sim.seen("/api/ps"))
        loop = asyncio.get_running_loop()
        backend = pool.backends[0]
        await eventually(lambda: backend.seen_at is not None)
        killed = loop.time()
        await sim.stop()
        await until(backend, "down")
        assert loop.time() - killed < every


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


@pytest.mark.parametrize("path", ["/api/tags", "/api/ps"])
async def test_a_host_whose_lists_take_too_long_is_alive(path: str) -> None:
    """Ollama answers /api/ps late while it starts a runner; its requests must not move for it."""
    async with Ollama() as sim, watching(sim) as (pool, watch):
        backend = pool.backends[0]
        await watch.look(backend)
        sim.fault("stall", route=path, times=None)
        for _ in range(3):
            await watch.look(backend)
        assert backend.health.state == "up"
        assert backend.has(LLAMA) is True
        sim.clear()


async def test_a_first_question_without_an_answer_ends_the_first_round_too() -> None:
    async with Ollama() as sim, watching(sim) as (pool, watch):
        sim.fault("stall", times=None)
        watch.start()
        assert pool.first_round.pending
        await eventually(lambda: not pool.first_round.pending)
        assert pool.backends[0].seen_at is None
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
            watch.refresh(pool.backends[0])
        await sim.wait_for(lambda: len(sim.seen("/api/ps")) == 2)
        assert len(sim.seen("/api/ps")) == 2


async def test_a_sick_host_is_not_made_sicker_by_questions() -> None:
    async with Ollama() as sim, watching(sim, every=0.5) as (pool, watch):
        watch.start()
        await sim.wait_for(lambda: len(sim.seen("/api/ps")) == 1)
        began = monotonic()
        while len(sim.seen("/api/ps")) < 4:
            watch.refresh(pool.backends[0])
            await asyncio.sleep(0.001)  # failures that come all the time
        assert monotonic() - began >= 0.27  # a timer may be a little early


async def closing(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, after: float, heard: list[bytes]
) -> None:
    """Answer questions on one connection; close it when it has been at rest for so many seconds."""
    try:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        while True:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            async with asyncio.timeout(after):
                heard.append(await reader.readuntil(b"\r\n\r\n"))
    except (OSError, EOFError):  # it was at rest for too long, or we left
        writer.close()


@pytest.mark.parametrize("after", [0.0, 0.1])
async def test_one_that_closes_every_connection_is_asked_no_more_often_for_it(after: float) -> None:
    heard: list[bytes] = []
    server = await asyncio.start_server(partial(closing, after=after, heard=heard), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pool = make_pool([make_backend("b1", f"http://127.0.0.1:{port}")])
    watch = Probes(pool, every=1.0, timeout=5.0)
    async with server:
        began = monotonic()
        watch.start()
        # At once, once more after the first was closed, and then at the interval, which is jittered by a fifth.
        await eventually(lambda: sum(b"/api/ps" in question for question in heard) == 4)
        assert monotonic() - began >= 1.5
        await watch.stop()
        await pool.aclose()


async def test_a_connection_that_is_closed_for_the_first_time_in_long_makes_it_ask_at_once() -> None:
    async with Ollama() as sim, watching(sim, every=60.0) as (pool, watch):
        watch.start()
        await sim.wait_for(lambda: len(sim.seen("/api/ps")) == 1)
        for _ in range(10):
            watch.hung_up(pool.backends[0])  # all of them at once, as of one that is stopped
        await sim.wait_for(lambda: len(sim.seen("/api/ps")) == 2)


async def test_what_was_changed_through_us_is_asked_for() -> None:
    async with Ollama("llama3.2") as sim, watching(sim, every=60.0) as (pool, watch):
        watch.start()
        backend = pool.backends[0]
        await eventually(lambda: backend.models is not None)
        qwen = "registry.ollama.ai/library/qwen3:latest"
        assert backend.has(qwen) is False
        pool.outcomes.touch(backend)
        assert backend.has(qwen) is None
        await eventually(lambda: backend.changed_at is None)
        assert backend.has(qwen) is False


async def test_an_answer_that_is_overtaken_says_nothing() -> None:
    async with Ollama("llama3.2") as sim, watching(sim) as (pool, watch):
        backend = pool.backends[0]
        slow = sim.fault("stall", route="/api/ps")
        early = asyncio.create_task(watch.look(backend))
        await sim.wait_for(lambda: sim.counters.active == 1)
        await watch.look(backend)
        asked_at = backend.asked_at
        backend.models = {}  # whatever the second look has found
        slow.release()
        await early
        assert (backend.models, backend.asked_at) == ({}, asked_at)


async def test_what_was_in_memory_went_with_the_host() -> None:
    async with Ollama() as sim, watching(sim) as (pool, watch):
        backend = pool.backends[0]
        backend.residency.saw({LLAMA: Resident()})
        await sim.stop()
        await watch.look(backend)
        assert backend.resident
        await watch.look(backend)
        assert not backend.resident


async def test_backends_that_went_are_asked_no_more_and_new_ones_at_once() -> None:
    async with Ollama() as old, Ollama() as new, watching(old, every=60.0) as (pool, watch):
        watch.start()
        await old.wait_for(lambda: len(old.seen("/api/ps")) == 1)
        (gone,) = pool.backends
        pool.replace([make_backend("b2", new.url)], pool_options())
        watch.start()
        await new.wait_for(lambda: len(new.seen("/api/ps")) == 1)
        watch.refresh(gone)
        assert set(watch._wake) == set(watch._tasks) == set(pool.backends)
        await eventually(lambda: bool(gone.transport._gone))  # type: ignore[attr-defined]


async def test_a_bug_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Ollama() as sim, watching(sim) as (pool, watch):
        failed = asyncio.Event()

        async def broken() -> None:
            if not failed.is_set():
                failed.set()
                raise RuntimeError

        monkeypatch.setattr(pool, "close_retired", broken)
        watch.start()
        await failed.wait()
        before = len(sim.seen("/api/ps"))
        await sim.wait_for(lambda: len(sim.seen("/api/ps")) > before)


async def test_whoever_waits_for_a_backend_hears_of_it() -> None:
    async with Ollama() as sim, watching(sim) as (pool, watch):
        heard = asyncio.Event()
        pool.on_free(heard.set)
        await watch.look(pool.backends[0])
        async with asyncio.timeout(5):
            await heard.wait()
        assert watch.oldest == pytest.approx(0.45)
