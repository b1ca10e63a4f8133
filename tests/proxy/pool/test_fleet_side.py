"""proxy/pool/fleet_side.py: what the fleet learns of the pool, and tells it."""

from time import monotonic

from proxy.pool.fleet_side import FleetSide
from proxy.simulator import Ollama
from tests.proxy.pool.test_pool import chat
from tests.proxy.pool.test_probes import watching
from tests.support.backend import eventually


async def test_the_slowest_model_says_how_long_requests_usually_take() -> None:
    async with Ollama() as sim, watching(sim) as (pool, watch):
        shared = FleetSide(pool, watch)
        assert shared.usual_seconds() == 0.0
        pool.outcomes.service_times.note("small", 2.0, monotonic())
        pool.outcomes.service_times.note("large", 30.0, monotonic())
        assert shared.usual_seconds() == 30.0


async def test_news_reach_who_waits_and_hints_the_probes() -> None:
    async with Ollama() as sim, watching(sim, every=60.0) as (pool, watch):
        shared = FleetSide(pool, watch)
        assert shared.backends == pool.backends
        watch.start()
        await sim.wait_for(lambda: len(sim.seen("/api/ps")) == 1)
        shared.hint("a name of another policy file")
        shared.hint("b1")
        await sim.wait_for(lambda: len(sim.seen("/api/ps")) == 2)
        heard: list[int] = []
        pool.on_free(lambda: heard.append(1))
        shared.changed()
        await eventually(lambda: bool(heard))


async def test_a_backend_that_a_reload_takes_out_is_leaving_while_it_runs_requests() -> None:
    async with Ollama() as sim, watching(sim) as (pool, watch):
        shared, (backend,) = FleetSide(pool, watch), pool.backends
        with pool.lease(await chat()):
            pool.replace([], pool.options)
            assert (shared.backends, shared.leaving) == ([], [backend])
            assert (backend.place, backend.active) == (sim.url, 1)
            await pool.close_retired()
            assert shared.leaving == [backend]
        await pool.close_retired()
        assert shared.leaving == []
