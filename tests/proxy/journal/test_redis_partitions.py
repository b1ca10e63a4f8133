"""proxy/journal/redis_partitions.py."""

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest

from proxy.journal.redis_partitions import IN_A_CLUSTER, SCRIPTS, Full, Partitions
from proxy.kernel.store import StoreUnavailable
from proxy.services.system_clock import SystemClock
from tests.support.redis import RedisServer, redis_server


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server("--maxmemory-policy", "noeviction") as started:
        yield started


def partitions(url: str) -> Partitions:
    return Partitions(url, SystemClock(), server_time=True, within=2.0, returned=lambda: None)


def test_every_script_is_known() -> None:
    stored = {path.name.removesuffix(".lua") for path in files("proxy.journal").joinpath("scripts").iterdir()}
    assert stored == {*SCRIPTS, "common"}


async def test_one_server_has_one_partition_and_asks_nobody_where_an_entry_is() -> None:
    parts = partitions("redis://127.0.0.1:1")
    assert (parts.count, parts.of("of red")) == (1, 0)
    assert await parts.where("anything") == 0
    await parts.aclose()


async def test_tenants_are_spread_over_the_partitions_of_a_cluster() -> None:
    parts = partitions("redis+cluster://127.0.0.1:1")
    assert parts.count == IN_A_CLUSTER
    assert {parts.of(f"of {number}") for number in range(500)} == set(range(IN_A_CLUSTER))


async def test_a_full_server_is_full_and_not_lost(server: RedisServer) -> None:
    parts = partitions(server.url)
    await parts.connect()
    server.command("CONFIG", "SET", "maxmemory", "1")
    facts = {"kind": "file", "owner": "o", "tenant": "t", "cost": 1, "weight": 1, "priority": 0, "expires": 2**40}
    add: list[Any] = ["id", b"body", "", "", "", 0, *(part for fact in facts.items() for part in fact)]
    try:
        with pytest.raises(Full):
            await parts.call("add", 0, *add)
        with pytest.raises(StoreUnavailable):
            await parts.ask("add", 0, *add)
        assert await parts.ask_all("count", "") != []
        assert parts.up
    finally:
        server.command("CONFIG", "SET", "maxmemory", "0")
        await parts.aclose()


async def test_the_password_is_not_shown(server: RedisServer) -> None:
    parts = partitions(server.url.replace("redis://", "redis://ann:secret@"))
    assert "secret" not in repr(parts)
    assert parts.name == server.url
    await parts.aclose()
