"""proxy/stores/primary.py: connections lead to the primary of now, though the one of before lives on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path

import pytest

from proxy.fleet.server import Said, Server
from proxy.journal.redis import RedisJournal
from proxy.kernel.quotas import Quota
from proxy.kernel.store import StoreUnavailable
from proxy.services.system_clock import SystemClock
from proxy.stores.primary import Primary
from proxy.stores.redis import RedisStore
from proxy.stores.redis_caller import FAILURES
from tests.support.backend import eventually
from tests.support.journals import ANN, entry
from tests.support.redis import RedisServer, Sentinel, redis_server, started
from tests.support.stores import windows

Write = Callable[[str], Awaitable[object]]


@asynccontextmanager
async def store(url: str) -> AsyncIterator[Write]:
    """Yield what writes something by which a text can be found among the server's keys."""
    opened = RedisStore(url, SystemClock(), within=5.0)
    await opened.connect()
    try:
        yield lambda name: opened.admit([Quota(name, requests=windows("1000/minute"))])
    finally:
        await opened.aclose()


@asynccontextmanager
async def journal(url: str) -> AsyncIterator[Write]:
    clock = SystemClock()
    opened = RedisJournal(url, clock)
    await opened.connect()
    try:
        yield lambda name: opened.add(entry(ANN, id=name, created_at=0.0, expires_at=clock.time() + 600))
    finally:
        await opened.aclose()


@asynccontextmanager
async def fleet(url: str) -> AsyncIterator[Write]:
    opened = Server(url, ttl=4.0, quiet=2.0, settle=1.0)
    opened.listen(lambda _: None, lambda: None)

    async def write(name: str) -> None:
        try:
            await opened.share(Said([(f"http://{name}", 1, 0, 0, 0)]))
        except FAILURES as error:
            raise StoreUnavailable(str(error)) from error

    try:
        yield write
    finally:
        await opened.aclose()


@contextmanager
def watched(folder: Path) -> Iterator[tuple[RedisServer, RedisServer, Sentinel]]:
    with redis_server() as first, redis_server("--replicaof", "127.0.0.1", str(first.port)) as second:
        with started(Sentinel(folder, first)) as sentinel:
            yield first, second, sentinel


@pytest.mark.parametrize("opened", [store, journal, fleet])
async def test_what_is_acknowledged_in_a_failover_is_at_the_new_primary_though_the_old_one_lives_on(
    opened: Callable[[str], object], tmp_path: Path
) -> None:
    with watched(tmp_path) as (first, second, sentinel):
        await eventually(lambda: str(second.port).encode() in sentinel.command("SENTINEL", "replicas", "main"))
        await eventually(lambda: b"master_link_status:up" in second.command("INFO", "replication"))
        async with opened(f"redis+sentinel://127.0.0.1:{sentinel.port}/main") as write:  # type: ignore[attr-defined]
            await write("key-0-")
            await eventually(lambda: sentinel.command("SENTINEL", "FAILOVER", "main") == b"+OK\r\n")
            acknowledged: list[bytes] = []
            moved = False
            names = (f"key-{number}-" for number in count(1))
            while not moved:
                name, promoted = next(names), b"role:master" in role_of(second)
                try:
                    await write(name)
                except StoreUnavailable:
                    await asyncio.sleep(0)  # a store that is lost says so at once
                    continue
                acknowledged.append(name.encode())
                moved = promoted and name.encode() in second.command("KEYS", f"*{name}*")
            assert b"role:master" in role_of(first), "it was deposed in the meantime"
            kept = second.command("KEYS", "*key-*")
            assert [name for name in acknowledged if name not in kept] == []


def role_of(server: RedisServer) -> bytes:
    return server.command("INFO", "replication")


async def test_without_a_sentinel_there_is_nothing_to_follow() -> None:
    with redis_server() as server:
        primary = Primary(server.url)
        primary.follow()
        assert await primary.client.ping()
        await primary.aclose()
