"""Redis dies, falls silent, fills up, forgets or comes back, under load: each limit does what it says, and no 500.

The load is eight callers of each kind who never pause, each with a limit of its own rule for this case.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Literal, get_args

import pytest

from middleware.rate_limit.plugin import RateLimit
from proxy.services.system_clock import SystemClock
from proxy.simulator import Ollama
from proxy.stores import known_full
from proxy.stores.redis import RedisStore
from proxy.testing import ok
from tests.support import wire
from tests.support.backend import eventually
from tests.support.limits import Backend, ask, caller, rates
from tests.support.proxy import Running, running
from tests.support.redis import RedisServer, redis_server

Rule = Literal["open", "closed", "local"]
RULES: tuple[Rule, ...] = get_args(Rule)
AMOUNT = 100
SHARE = 0.2
ADDRESSES = {"open": "10.1.0.", "closed": "10.2.0.", "local": "10.3.0."}
"""Where callers of each rule call from, but for the last number."""
NETWORKS = [{"network": f"{address}0/24", "policy": rule} for rule, address in ADDRESSES.items()]
BOUND = 0.1
"""Seconds that a decision may take, whatever the store does."""
SLACK = 1.0
"""Seconds that this machine may be late, besides what it was seen to be late meanwhile."""
BEAT = 0.01


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server("--maxmemory-policy", "noeviction") as running:
        yield running


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    opened = RedisStore(server.url, SystemClock())
    await opened.connect()
    yield opened
    await opened.aclose()


class Load:
    """Callers who ask again and again, and what they were told; in each phase new callers, whom nobody has counted."""

    def __init__(self, store: RedisStore) -> None:
        self._plugins = {
            rule: RateLimit(
                ok,
                store=store,
                requests=rates(f"{AMOUNT}/day"),
                tokens=rates("1000000000/day"),
                streams=50,
                on_store_failure=rule,
                local_share=SHARE,
            )
            for rule in RULES
        }
        self.statuses: dict[str, list[int]] = {rule: [] for rule in RULES}
        self.phase = 0
        self.slowest = 0.0
        self.late = 0.0
        self.seen: set[int] = set()
        self._news = asyncio.Event()

    async def _caller(self, rule: Rule) -> None:
        while True:
            phase, started = self.phase, perf_counter()
            answer = await ask(self._plugins[rule], f"{rule} {phase}")
            self.slowest = max(self.slowest, perf_counter() - started)
            status = answer.status or (answer.error.status if answer.error else 0)
            self.seen.add(status)
            if phase == self.phase:
                self.statuses[rule].append(status)
            self._news.set()
            await asyncio.sleep(0)

    async def _heartbeat(self) -> None:
        while True:
            due = perf_counter() + BEAT
            await asyncio.sleep(BEAT)
            self.late = max(self.late, perf_counter() - due)

    async def until(self, found: Callable[[dict[str, list[int]]], bool], *, new: bool = True) -> None:
        """Begin a phase, or forget what was seen in this one, and return when what comes is as expected."""
        self.phase += new
        for statuses in self.statuses.values():
            statuses.clear()
        async with asyncio.timeout(20):
            while not found(self.statuses):
                self._news.clear()
                await self._news.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        tasks = [asyncio.create_task(self._caller(rule)) for rule in RULES for _ in range(8)]
        tasks.append(asyncio.create_task(self._heartbeat()))
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert [task for task in tasks if not task.cancelled() and task.exception()] == []


def limited(statuses: dict[str, list[int]]) -> bool:
    """Each caller has used the day's amount up, and what was let through before is answered."""
    return all(seen[-16:] == [429] * 16 for seen in statuses.values())


def each_by_its_rule(statuses: dict[str, list[int]]) -> bool:
    """The store is missed by now: nothing limits `open`, `closed` is shut, `local` has used its share up."""
    return (
        statuses["open"].count(200) > 3 * AMOUNT
        and statuses["closed"][-50:] == [503] * 50
        and statuses["local"][-50:] == [429] * 50
    )


async def asked(proxy: Running, method: str, path: str, address: str) -> int:
    body = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]} if method == "POST" else None
    return (await wire.ask(proxy.address, method, path, body, {"X-Forwarded-For": address})).status


async def kill(server: RedisServer) -> None:
    server.kill()


async def freeze(server: RedisServer) -> None:
    server.freeze()


async def fill(server: RedisServer) -> None:
    assert server.command("CONFIG", "SET", "maxmemory", "1") == b"+OK\r\n"


async def demote(server: RedisServer) -> None:
    """As in a fail-over: what was the primary takes no writes."""
    assert server.command("REPLICAOF", "127.0.0.1", "1") == b"+OK\r\n"


async def restart(server: RedisServer) -> None:
    await asyncio.to_thread(server.start)


async def thaw(server: RedisServer) -> None:
    server.thaw()


async def empty(server: RedisServer) -> None:
    assert server.command("CONFIG", "SET", "maxmemory", "0") == b"+OK\r\n"


async def promote(server: RedisServer) -> None:
    assert server.command("REPLICAOF", "NO", "ONE") == b"+OK\r\n"


@pytest.mark.parametrize(
    ("failure", "remedy"),
    [(kill, restart), (freeze, thaw), (fill, empty), (demote, promote)],
    ids=lambda one: one.__name__,
)
async def test_each_limit_has_its_own_rule_while_redis_is_away(
    server: RedisServer,
    store: RedisStore,
    failure: Callable[[RedisServer], "asyncio.Future[None]"],
    remedy: Callable[[RedisServer], "asyncio.Future[None]"],
) -> None:
    load = Load(store)
    async with load.running():
        await load.until(limited)
        assert load.statuses["closed"].count(200) <= AMOUNT
        await failure(server)
        await load.until(each_by_its_rule)
        assert load.statuses["open"].count(200) == len(load.statuses["open"])
        assert load.statuses["closed"].count(503) == len(load.statuses["closed"])
        assert load.statuses["local"].count(200) == AMOUNT * SHARE
        await remedy(server)
        await eventually(lambda: " up " in repr(store))
        await load.until(limited)
    assert load.seen == {200, 429, 503}
    assert load.slowest < BOUND + SLACK + load.late


async def test_a_flush_starts_every_counter_anew_and_is_no_failure(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_full, "TRUSTED", 0.2)
    store = RedisStore(server.url, SystemClock(), within=5)
    load = Load(store)
    async with load.running():
        await load.until(limited)
        for _ in range(3):
            assert server.command("FLUSHALL") == b"+OK\r\n"
            await load.until(lambda statuses: all(200 in seen for seen in statuses.values()), new=False)
            await load.until(limited, new=False)
    await store.aclose()
    assert load.seen == {200, 429}


async def test_what_runs_while_redis_is_away_is_settled_when_it_is_back(server: RedisServer, store: RedisStore) -> None:
    backend = Backend()
    plugin = RateLimit(backend, store=store, tokens=rates("1000/day"), streams=4)
    quota = plugin._rules[0].quota(caller())
    running = [asyncio.create_task(ask(plugin)) for _ in range(3)]
    await backend.arrived(3)
    server.freeze()
    backend.release.set()
    for task in running:
        assert (await task).status == 200
    assert "3 to settle" in repr(store)
    server.thaw()
    await eventually(lambda: "0 to settle" in repr(store))
    # Nothing runs; the answers came without a report, so each counts by its estimate: 15 tokens.
    assert [level.used for level in await store.look([quota])] == [0, 3 * 15]


@pytest.mark.parametrize("failure", [kill, freeze], ids=lambda one: one.__name__)
async def test_health_stays_up_and_each_rule_holds_in_the_whole_proxy(
    server: RedisServer, failure: Callable[[RedisServer], "asyncio.Future[None]"]
) -> None:
    limits = [{"name": rule, "requests": "2/day", "on_store_failure": rule} for rule in RULES]
    policies = {rule: {"rate_limit": {"limits": [limit]}} for rule, limit in zip(RULES, limits, strict=True)}
    chain = ["logging", {"auth": {"addresses": NETWORKS}}, {"rate_limit": {"limits": limits[:1]}}]
    async with (
        Ollama() as sim,
        running(
            sim.url, middleware=chain, policies=policies, store=server.url, trusted_proxies=["127.0.0.0/8"]
        ) as proxy,
    ):
        seen: dict[str, list[int]] = {}
        for phase in ("before", "after"):
            for rule, address in ADDRESSES.items():
                told = [await asked(proxy, "POST", "/api/chat", f"{address}{phase == 'after':d}") for _ in range(4)]
                seen[f"{rule} {phase}"] = told
            assert await asked(proxy, "GET", "/-/healthz", "10.0.0.1") == 200
            assert await asked(proxy, "HEAD", "/", "10.0.0.1") == 200
            if phase == "before":
                await failure(server)
    assert [seen[f"{rule} before"] for rule in RULES] == [[200, 200, 429, 429]] * 3
    assert seen["open after"] == [200] * 4
    assert seen["closed after"] == [503] * 4
    assert seen["local after"] == [200, 429, 429, 429]


async def test_nothing_that_starts_or_stops_waits_for_it(server: RedisServer) -> None:
    server.kill()
    store = RedisStore(server.url, SystemClock())
    async with asyncio.timeout(5):
        await store.connect()
        assert "unreachable" in repr(store)
        await store.aclose()
