"""rate_limit on a real Redis: exact at every edge, and over two proxy processes."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from middleware.rate_limit.plugin import RateLimit
from proxy.services.system_clock import SystemClock
from proxy.stores.redis import RedisStore
from tests.support.limits import EDGES, Backend, ask, caller, passing_of_100, rates
from tests.support.process import start_process
from tests.support.redis import RedisServer, redis_server
from tests.support.token_worker import AMOUNT, CALLER, LARGEST, limiter

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
async def stores(server: RedisServer) -> AsyncIterator[list[RedisStore]]:
    """Those of two proxies."""
    server.command("FLUSHALL")
    opened = [RedisStore(server.url, SystemClock(), within=5) for _ in range(2)]
    yield opened
    for store in opened:
        await store.aclose()


@pytest.mark.parametrize("proxies", [1, 2])
@pytest.mark.parametrize(("options", "passing"), EDGES)
async def test_exactly_the_allowed_number_of_100_at_once_passes(
    stores: list[RedisStore], options: dict[str, Any], passing: int, proxies: int
) -> None:
    backend = Backend()
    plugins = [RateLimit(backend, store=store, **options) for store in stores[:proxies]]
    assert await passing_of_100(backend, *plugins) == passing


async def test_who_waits_for_the_answer_never_finds_the_own_place_taken(stores: list[RedisStore]) -> None:
    backend = Backend()
    backend.release.set()
    plugin = RateLimit(backend, store=stores[0], streams=1, tokens=rates("1000000/minute"))
    for _ in range(30):
        assert (await ask(plugin)).status == 200


async def test_it_explains_what_the_other_proxy_has_counted(stores: list[RedisStore]) -> None:
    backend = Backend()
    backend.release.set()
    one, other = (RateLimit(backend, store=store, requests=rates("5/minute")) for store in stores)
    await ask(one)
    explained = await other.explain(caller())
    assert explained.text == "1 of 5 requests per minute are used for this identity"


@pytest.mark.parametrize("seeds", [(1, 2), (3, 4), (5, 6)])
async def test_two_processes_spend_one_budget_to_the_token(
    server: RedisServer, stores: list[RedisStore], seeds: tuple[int, int]
) -> None:
    """Random streams with random sizes, disconnects and failures in two processes, while a third one watches."""
    watcher = stores[0]
    plugin = limiter(backend_of_nobody, watcher)
    quota = plugin._rules[0].quota(caller(CALLER))
    workers = [
        await start_process(
            sys.executable, "-m", "tests.support.token_worker", server.url, str(seed), cwd=ROOT, stdin=PIPE, stdout=PIPE
        )
        for seed in seeds
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert await worker.stdout.readline() == b"ready\n"
    ended = asyncio.gather(*(worker.communicate(b"go\n") for worker in workers))
    most = 0
    while not ended.done():
        (level,) = await watcher.look([quota])
        most = max(most, level.used)
        await asyncio.wait([ended], timeout=0.002)
    reports = [json.loads(output) for output, _ in await ended]
    assert [worker.returncode for worker in workers] == [0, 0]
    (level,) = await watcher.look([quota])
    assert level.used == sum(report["tokens"] for report in reports)
    assert AMOUNT <= level.used < AMOUNT + LARGEST
    assert most < AMOUNT + LARGEST  # one reservation, whichever process it is of
    for report in reports:
        assert report["refused"] > 0
        assert len(report["outcomes"]) == 3, report


async def backend_of_nobody(*_: object) -> None:
    raise AssertionError("nothing is sent here")
