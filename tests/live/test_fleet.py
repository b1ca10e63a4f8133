"""Two and three proxies on one Redis share the slots of a host, and one line of waiting requests."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import Any

import orjson
import pytest

from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.proxy import Running, running
from tests.support.redis import RedisServer, redis_server
from tests.support.tenants import BELIEVE, chat
from tests.support.wire import ask

SLOTS = 4
CHAIN: list[Any] = ["logging", BELIEVE, {"queue": {"wait": "30s", "depth": 1000}}]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as started:
        yield started


@asynccontextmanager
async def fleet(server: RedisServer, number: int, sim: Ollama, **more: Any) -> AsyncIterator[list[Running]]:
    """Run so many proxies in front of one host with `SLOTS` slots."""
    async with AsyncExitStack() as stack:
        settings: dict[str, Any] = {"middleware": CHAIN, "store": server.url, **more}
        host = {"name": "gpu", "url": sim.url, "slots": SLOTS}
        yield [await stack.enter_async_context(running(host, **settings)) for _ in range(number)]


@asynccontextmanager
async def busy(proxies: list[Running], spread: Mapping[str, tuple[int, ...]]) -> AsyncIterator[Counter[str]]:
    """Keep so many clients of each tenant busy at each proxy; yield how many answers each tenant got."""
    got: Counter[str] = Counter()

    async def client(proxy: Running, tenant: str) -> None:
        while True:
            reply = await ask(proxy.address, "POST", "/api/chat", chat(tokens=2), headers={"tenant": tenant})
            assert reply.status == 200, reply.body
            got[tenant] += 1

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(client(proxy, tenant))
            for tenant, numbers in spread.items()
            for proxy, number in zip(proxies, numbers, strict=True)
            for _ in range(number)
        ]
        try:
            yield got
        finally:
            for task in tasks:
                task.cancel()


async def test_the_host_never_runs_more_than_its_slots_and_tenants_get_the_same_wherever_they_ask(
    server: RedisServer,
) -> None:
    async with Ollama(prompt_delay=0.03, num_parallel=64) as sim, fleet(server, 3, sim) as proxies:
        spread = {"a": (8, 8, 8), "b": (3, 0, 0), "c": (0, 6, 0), "d": (6, 0, 3)}
        async with busy(proxies, spread) as got:
            await eventually(lambda: got.total() >= 60)
            before = got.copy()
            await eventually(lambda: got.total() - before.total() >= 400)
            shares = [got[tenant] - before[tenant] for tenant in spread]
        assert sim.counters.max_generating == SLOTS
        assert sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares)) >= 0.95


@pytest.mark.timing(reason="it compares how many requests are answered in a time")
async def test_three_proxies_use_the_slots_nearly_as_well_as_one(server: RedisServer) -> None:
    async def rate(number: int) -> float:
        async with Ollama(prompt_delay=0.1, num_parallel=64) as sim, fleet(server, number, sim) as proxies:
            async with busy(proxies, {"a": (24 // number,) * number}) as got:
                await eventually(lambda: got.total() >= 2 * SLOTS)
                before, began = got.total(), monotonic()
                await eventually(lambda: got.total() - before >= 100)
                return 100 / (monotonic() - began)

    assert await rate(3) >= 0.9 * await rate(1)


async def test_the_slots_of_a_stopped_proxy_come_back(server: RedisServer) -> None:
    async with Ollama(prompt_delay=0.02, num_parallel=64) as sim, fleet(server, 1, sim) as (staying,):
        async with fleet(server, 1, sim) as (leaving,):
            async with busy([leaving], {"a": (8,)}) as got:
                await eventually(lambda: got.total() >= 20)
        async with busy([staying], {"b": (8,)}) as got:
            await eventually(lambda: sim.counters.generating == SLOTS)
        assert sim.counters.max_generating == SLOTS


async def test_proxies_go_on_with_their_shares_while_redis_is_away(server: RedisServer) -> None:
    async with Ollama(prompt_delay=0.02, num_parallel=64) as sim, fleet(server, 2, sim) as proxies:
        async with busy(proxies, {"a": (8, 8)}) as got:
            await eventually(lambda: got.total() >= 40)
            server.kill()
            await eventually(lambda: not any(proxy.app.fleet.up for proxy in proxies if proxy.app.fleet))
            before = got.total()
            await eventually(lambda: got.total() >= before + 100)
            backends = [proxy.app.pool.backends[0] for proxy in proxies]
            await eventually(lambda: [backend.permits for backend in backends] == [SLOTS // 2] * 2)
            ready, status, metrics = [
                await ask(proxies[0].address, "GET", path) for path in ("/-/readyz", "/-/status", "/-/metrics")
            ]
            assert ready.status == 200
            assert orjson.loads(ready.body)["fleet"] == "alone"
            assert orjson.loads(status.body)["backends"][0]["permits"] == SLOTS // 2
            assert b"ollama_proxy_fleet_up 0" in metrics.body
            server.start()
            await eventually(lambda: all(proxy.app.fleet.up for proxy in proxies if proxy.app.fleet))
            before = got.total()
            await eventually(lambda: got.total() >= before + 100)
        assert sim.counters.max_generating == SLOTS
        events = Counter([line["event"] for proxy in proxies for line in proxy.log.events])
        assert (events["fleet_lost"], events["fleet_back"]) == (2, 2)  # once for each proxy


async def test_requests_one_after_the_other_take_two_round_trips_each(server: RedisServer) -> None:
    """The limits' two; the slot stays between them."""
    requests = 40
    chain = [*CHAIN[:2], {"rate_limit": {"requests": "10000/minute", "streams": 5}}, CHAIN[2]]
    async with Ollama(num_parallel=64) as sim, fleet(server, 2, sim, middleware=chain) as proxies:
        await ask(proxies[0].address, "POST", "/api/chat", chat())
        before = _calls(server)
        for _ in range(requests):
            assert (await ask(proxies[0].address, "POST", "/api/chat", chat())).status == 200
        spent = _calls(server) - before
        renewals = 8  # of two proxies, in the seconds that this took
        assert spent <= 2 * requests + renewals


def _calls(server: RedisServer) -> int:
    """Return the number of scripts that the server ran."""
    said = server.command("INFO", "commandstats").decode()
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in said.splitlines() if "eval" in line)


async def test_a_request_that_does_not_queue_needs_a_permit_too(server: RedisServer) -> None:
    chain = ["logging", BELIEVE]
    async with Ollama(prompt_delay=0.2, num_parallel=64) as sim, fleet(server, 2, sim, middleware=chain) as proxies:
        asking = [ask(proxies[n % 2].address, "POST", "/api/chat", chat()) for n in range(10)]
        statuses = Counter([reply.status for reply in await asyncio.gather(*asking)])
        assert sim.counters.max_generating == statuses[200] == SLOTS
        assert statuses[503] == 6


async def test_a_proxy_alone_in_memory_shares_nothing(server: RedisServer) -> None:
    async with Ollama() as sim, running({"name": "gpu", "url": sim.url, "slots": SLOTS}, middleware=CHAIN) as proxy:
        assert proxy.app.fleet is None
        assert proxy.app.pool.backends[0].permits is None
    async with Ollama() as sim, running(sim.url, middleware=CHAIN, store=server.url) as proxy:
        assert proxy.app.pool.backends[0].permits is None
