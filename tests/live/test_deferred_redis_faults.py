"""Deferred requests of a whole proxy while its Redis is refused, black-holed, full, failed over, flushed."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from proxy.simulator import Ollama
from tests.live.test_deferred import CHAT, accept, answer, deferring
from tests.support.backend import eventually
from tests.support.proxy import Running
from tests.support.redis import RedisServer, redis_server
from tests.support.wire import Reply, ask

Act = Callable[[RedisServer], object]
ACCEPTED = 6
AWAY: dict[str, tuple[Act, Act]] = {
    "refused": (RedisServer.kill, RedisServer.start),
    "black-holed": (RedisServer.freeze, RedisServer.thaw),
    "failed-over": (
        lambda server: server.command("REPLICAOF", "127.0.0.1", "1"),
        lambda server: server.command("REPLICAOF", "NO", "ONE"),
    ),
}
FULL: tuple[Act, Act] = (
    lambda server: server.command("CONFIG", "SET", "maxmemory", "1"),
    lambda server: server.command("CONFIG", "SET", "maxmemory", "0"),
)


async def defer(proxy: Running) -> Reply:
    return await ask(proxy.address, "POST", "/api/chat", CHAT, {"Prefer": "respond-async"})


def code(reply: Reply) -> object:
    return orjson.loads(reply.body).get("code")


async def until_accepted(proxy: Running) -> str:
    """Ask until a request is accepted; return its path. All refusals until then are of the store, not of the proxy."""
    async with asyncio.timeout(20):
        while (reply := await defer(proxy)).status != 202:
            assert reply.status in (503, 507), reply.body
    return reply.headers["location"]


async def until_over(proxy: Running, place: str) -> None:
    """Wait until a request is over. One that was claimed by a call without an answer is lost first."""
    async with asyncio.timeout(40):
        name = place.rpartition("/")[2]
        while (found := await proxy.app.journal.wait_for_change(name, 2**62, 20)) is None or not found.over:
            assert found is not None


@pytest.mark.parametrize("fault", [*AWAY, "full"])
async def test_what_was_accepted_completes_once_redis_is_back(fault: str, tmp_path: Path) -> None:
    breaks, mends = AWAY.get(fault, FULL)
    file = ("--appendonly", "yes", "--appendfsync", "always", "--dir", str(tmp_path))
    with redis_server("--maxmemory-policy", "noeviction", *file) as server:
        async with Ollama(tokens=20, token_delay=0.01) as ollama, deferring(ollama, server.url, slots=1) as proxy:
            places = [await accept(proxy) for _ in range(ACCEPTED)]
            await eventually(lambda: ollama.counters.generating == 1)
            breaks(server)
            refused = await defer(proxy)
            assert refused.status == (507 if fault == "full" else 503)
            assert int(refused.headers["retry-after"]) >= 1
            assert code(refused) == ("journal_full" if fault == "full" else "journal_unavailable")
            looked = await ask(proxy.address, "GET", places[-1])
            assert looked.status == (200 if fault == "full" else 503), looked.body
            assert (await ask(proxy.address, "GET", "/-/healthz")).status == 200
            assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).status == 200  # who waits does not need it
            await asyncio.to_thread(mends, server)
            places.append(await until_accepted(proxy))
            for place in places:
                await until_over(proxy, place)
                reply = await answer(proxy, place)
                assert (reply.status, reply.clean, reply.body.count(b'"done":true')) == (200, True, 1), reply.body


async def test_what_was_flushed_is_gone_and_new_requests_run() -> None:
    with redis_server() as server:
        async with Ollama(tokens=20, token_delay=0.01) as ollama, deferring(ollama, server.url, slots=1) as proxy:
            places = [await accept(proxy) for _ in range(ACCEPTED)]
            await eventually(lambda: ollama.counters.generating == 1)
            server.command("FLUSHALL")
            for place in places:
                assert (await answer(proxy, place)).status == 404
            again = await answer(proxy, await until_accepted(proxy))
            assert (again.status, again.body.count(b'"done":true')) == (200, 1)
            await eventually(lambda: proxy.app.runner.running == 0)
