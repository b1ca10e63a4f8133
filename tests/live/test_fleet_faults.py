"""Two proxies that share the slots of a host while their Redis is refused, black-holed, full, failed over, flushed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from proxy.simulator import Ollama
from tests.live.test_fleet import SLOTS, busy, fleet
from tests.support.backend import eventually
from tests.support.proxy import Running
from tests.support.redis import RedisServer, redis_server

Act = Callable[[RedisServer], object]
AWAY: dict[str, tuple[Act, Act]] = {
    "refused": (RedisServer.kill, RedisServer.start),
    "black-holed": (RedisServer.freeze, RedisServer.thaw),
    "full": (
        lambda server: server.command("CONFIG", "SET", "maxmemory", "1"),
        lambda server: server.command("CONFIG", "SET", "maxmemory", "0"),
    ),
    "failed-over": (
        lambda server: server.command("REPLICAOF", "127.0.0.1", "1"),
        lambda server: server.command("REPLICAOF", "NO", "ONE"),
    ),
}
MORE = 60
"""Answers after which things are taken to go on."""


@asynccontextmanager
async def shared() -> AsyncIterator[tuple[RedisServer, Ollama, list[Running]]]:
    with redis_server("--maxmemory-policy", "noeviction") as server:
        async with Ollama(prompt_delay=0.03, num_parallel=64) as sim, fleet(server, 2, sim) as proxies:
            yield server, sim, proxies


def up(proxies: Sequence[Running]) -> list[bool]:
    return [proxy.app.fleet is not None and proxy.app.fleet.up for proxy in proxies]


async def go_on(got: Counter[str], answers: int) -> None:
    """Wait for so many more answers, each a 200."""
    before = got.total()
    await eventually(lambda: got.total() >= before + answers)


@pytest.mark.parametrize("fault", AWAY)
async def test_slots_hold_while_redis_is_away_and_when_it_is_back(fault: str) -> None:
    breaks, mends = AWAY[fault]
    async with shared() as (server, sim, proxies), busy(proxies, {"a": (8, 8), "b": (4, 0)}) as got:
        await go_on(got, MORE)
        breaks(server)
        await eventually(lambda: up(proxies) == [False, False])
        await go_on(got, MORE)
        await asyncio.to_thread(mends, server)
        await eventually(lambda: up(proxies) == [True, True])
        await go_on(got, MORE)
        assert sim.counters.max_generating == SLOTS


async def test_slots_hold_when_redis_is_flushed_again_and_again() -> None:
    async with shared() as (server, sim, proxies), busy(proxies, {"a": (8, 8), "b": (4, 0)}) as got:
        for _ in range(5):
            await go_on(got, MORE // 2)
            server.command("FLUSHALL")
        await go_on(got, MORE)
        assert sim.counters.max_generating == SLOTS
        assert up(proxies) == [True, True]
