"""Two and three proxies on one Redis share the slots of a host, and one line of waiting requests."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import Any

import pytest

from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.proxy import Running, running
from tests.support.redis import RedisServer, redis_server
from tests.support.tenants import BELIEVE, chat
from tests.support.wire import ask, request

SLOTS = 4
CHAIN: list[Any] = ["logging", BELIEVE, {"queue": {"wait": "30s", "depth": 1000}}]
ANSWER = {"status": 200}


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
async def busy(proxies: list[Running], spread: dict[str, tuple[int, ...]]) -> AsyncIterator[Counter[str]]:
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
            before, began = got.copy(), monotonic()
            await eventually(lambda: got.total() - before.total() >= 400)
            seconds = monotonic() - began
            shares = [got[tenant] - before[tenant] for tenant in spread]
        print(shares, 400 * 0.03 / SLOTS / seconds, sim.counters.max_generating)
        assert sim.counters.max_generating == SLOTS
        assert sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares)) >= 0.95
