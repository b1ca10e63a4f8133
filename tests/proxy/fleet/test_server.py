"""proxy/fleet/server.py and its script, on a real server: never more permits than slots, in the order of turns."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from proxy.fleet.server import PREFIX, Said, Server
from proxy.kernel.shared_line import Demand
from tests.support.redis import RedisServer, redis_server

URL = "http://gpu:11434"
TTL, QUIET, SETTLE = 4.0, 2.0, 1.0


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as started:
        yield started


@dataclass
class Proxy:
    """One proxy that says what it holds, and counts what it is granted."""

    server: Server
    held: int = 0
    seen: int = 0
    waiting: dict[str, int] = field(default_factory=dict)
    got: Counter[str] = field(default_factory=Counter)
    messages: list[dict[str, Any]] = field(default_factory=list)

    async def call(self, slots: int = 4, *, share: int = 0, cost: int = 1, priority: int = 0) -> dict[str, Any]:
        demands = [Demand(who, priority, 1.0, cost, many, 0.0, (URL,)) for who, many in self.waiting.items() if many]
        reply = await self.server.share(Said([(URL, slots, self.held, self.seen, share)], demands))
        if "late" not in reply:
            self.take(reply["backends"][0][1])
            for tenant in reply["tenants"]:
                self.waiting[tenant] -= 1
                self.got[tenant] += 1
        return reply

    def take(self, grants: int) -> None:
        self.held += max(0, grants - self.seen)
        self.seen = max(self.seen, grants)


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def new_proxy(redis: RedisServer, time: Time) -> Proxy:
    return Proxy(Server(redis.url, ttl=TTL, quiet=QUIET, settle=SETTLE, now=time))


@pytest.fixture
async def proxies(redis: RedisServer, time: Time) -> AsyncIterator[list[Proxy]]:
    """Three proxies that have shared their slots for a while."""
    three = [new_proxy(redis, time) for _ in range(3)]
    await three[0].call()
    time.now += SETTLE
    yield three
    for proxy in three:
        await proxy.server.aclose()


@pytest.mark.parametrize("seed", range(8))
async def test_there_are_never_more_permits_than_slots(proxies: list[Proxy], seed: int) -> None:
    """Whoever asks, gives back, and loses a reply in whichever order."""
    random = Random(seed)
    slots = random.randint(1, 5)
    for _ in range(300):
        proxy = random.choice(proxies)
        proxy.held -= random.randint(0, proxy.held)
        proxy.waiting = {"a": random.randint(0, 3), "b": random.randint(0, 3)}
        if random.random() < 0.2:  # the reply gets lost; the next one says the same
            held, seen, got = proxy.held, proxy.seen, proxy.got.copy()
            await proxy.call(slots)
            proxy.held, proxy.seen, proxy.got = held, seen, got
        else:
            await proxy.call(slots)
        assert sum(each.held for each in proxies) <= slots
    for proxy in proxies:
        proxy.waiting = {}
        await proxy.call(slots)
    assert sum(each.held for each in proxies) <= slots
    for proxy in proxies:
        proxy.held = 0
        await proxy.call(slots)
    proxies[0].waiting = {"a": slots + 1}
    await proxies[0].call(slots)
    assert proxies[0].held == slots  # none has got lost


async def test_what_a_dead_proxy_held_is_free_after_its_time(proxies: list[Proxy], time: Time) -> None:
    dead, alive, _ = proxies
    dead.waiting = {"a": 4}
    await dead.call()
    assert dead.held == 4
    alive.waiting = {"b": 2}
    for _ in range(3):
        time.now += (TTL - 0.1) / 3
        await alive.call()
        assert alive.held == 0
    time.now += 0.2
    reply = await alive.call()
    assert (alive.held, reply["alive"]) == (2, 1)


async def test_a_proxy_that_leaves_hands_its_permits_to_who_waits(proxies: list[Proxy]) -> None:
    leaving, other, _ = proxies
    leaving.waiting = {"a": 4}
    await leaving.call()
    other.waiting = {"b": 3}
    await other.call()
    await leaving.server.share(Said([(URL, 4, 0, 0, 0)]), leaves=True)
    await other.call()  # the message is not heard here, and the call says nothing new
    assert other.held == 3


async def test_tenants_take_turns_wherever_they_wait(proxies: list[Proxy], redis: RedisServer) -> None:
    """Tenant `a` waits at all proxies, `b` and `c` at one each."""
    demands = ({"a": 9, "b": 9}, {"a": 9}, {"a": 9, "c": 9})
    for _ in range(150):
        for proxy, waiting in zip(proxies, demands, strict=True):
            proxy.held = 0
            proxy.waiting = dict(waiting)
            await proxy.call(slots=1)
    turns = [float(redis.command("ZSCORE", f"{PREFIX}:turns", tenant).split()[1]) for tenant in "abc"]
    assert sum(turns) >= 100
    assert max(turns) - min(turns) <= 3


async def test_a_higher_priority_goes_first(proxies: list[Proxy]) -> None:
    low, high, holder = proxies
    holder.waiting = {"x": 1}
    await holder.call(slots=1)
    low.waiting, high.waiting = {"a": 1}, {"b": 1}
    await low.call(slots=1)
    await high.call(slots=1, priority=5)
    holder.held = 0
    await holder.call(slots=1)
    await low.call(slots=1)
    await high.call(slots=1, priority=5)
    assert (low.held, high.held) == (0, 1)


async def test_a_grant_is_told_to_the_proxy_that_waits_and_a_wish_to_the_one_that_holds(proxies: list[Proxy]) -> None:
    holder, waiter, _ = proxies
    news: asyncio.Queue[tuple[Proxy, dict[str, Any]]] = asyncio.Queue()
    holder.server.listen(lambda message: news.put_nowait((holder, message)), lambda: None)
    waiter.server.listen(lambda message: news.put_nowait((waiter, message)), lambda: None)
    holder.waiting = {"x": 1}
    await holder.call(slots=1)
    waiter.waiting = {"a": 1}
    async with asyncio.timeout(10):
        while not news.qsize():  # the subscription may not stand yet; a wish is told again after a while
            await waiter.call(slots=1)
            await asyncio.sleep(0)
        who, message = await news.get()
        assert who is holder
        assert message["wanted"] == [URL]
        holder.held = 0
        while True:
            await holder.call(slots=1)
            who, message = await news.get()
            if who is waiter:
                break
    assert message["grants"] == [[URL, 1, "a"]]


def flush(redis: RedisServer) -> None:
    redis.command("FLUSHALL")


def go_over_to_a_replica(redis: RedisServer) -> None:
    """What is written came from another server, which may have granted more since."""
    redis.command("SET", f"{PREFIX}:server", "another")


def do_nothing(_: RedisServer) -> None:
    """Nobody can reach the server for a while, and nothing else happens."""


@pytest.mark.parametrize(
    ("happens", "away", "settles"),
    [
        (flush, 0.1, SETTLE),
        (flush, TTL + 1, SETTLE),
        (go_over_to_a_replica, 0.1, 3 * SETTLE),
        (go_over_to_a_replica, TTL + 1, 3 * SETTLE),
        (do_nothing, QUIET + 0.1, SETTLE),
        (do_nothing, TTL + 1, SETTLE),
    ],
)
async def test_after_an_outage_what_runs_counts_first(
    proxies: list[Proxy],
    redis: RedisServer,
    time: Time,
    happens: Callable[[RedisServer], None],
    away: float,
    settles: float,
) -> None:
    """Until all had time to say what they run, a proxy is granted its local share at most, and a new one nothing."""
    first, second, _ = proxies
    first.waiting, second.waiting = {"a": 2}, {"b": 2}
    await first.call()
    await second.call()
    assert (first.held, second.held) == (2, 2)
    happens(redis)
    time.now += away
    newcomer = new_proxy(redis, time)
    newcomer.waiting = {"c": 9}
    await newcomer.call()
    first.waiting = {"a": 9}
    await first.call(share=2)
    assert (first.held, newcomer.held) == (2, 0)
    time.now += settles / 2
    await second.call(share=2)
    assert (first.held, second.held) == (2, 2)
    time.now += settles / 2
    await newcomer.server.share(Said(()), leaves=True)
    second.held = 1
    await second.call()
    await first.call()
    assert (first.held, second.held) == (3, 1)
    await newcomer.server.aclose()


async def test_a_proxy_that_comes_after_the_others_left_need_not_wait(
    proxies: list[Proxy], redis: RedisServer, time: Time
) -> None:
    for leaving in proxies:
        await leaving.server.share(Said([(URL, 4, 0, 0, 0)]), leaves=True)
    time.now += 100 * QUIET
    newcomer = new_proxy(redis, time)
    newcomer.waiting = {"a": 4}
    await newcomer.call()
    assert newcomer.held == 4
    await newcomer.server.aclose()


async def test_saved_retries_are_divided_among_all(proxies: list[Proxy]) -> None:
    saved = [30.0, 0.0, 0.0]
    for _ in range(4):
        for place, proxy in enumerate(proxies):
            reply = await proxy.server.share(Said((), retries=saved[place]))
            saved[place] = float(reply["retries"])
            assert sum(saved) <= 30.0 + 1e-9
    assert min(saved) > 5.0
    await proxies[0].server.share(Said((), retries=saved[0]), leaves=True)
    got = float((await proxies[1].server.share(Said((), retries=saved[1])))["retries"])
    assert got > saved[1]  # what one that leaves had is not lost


async def test_an_ejection_is_told_to_the_others_for_as_long_as_it_lasts(proxies: list[Proxy], time: Time) -> None:
    first, second, third = proxies
    assert not (await first.server.share(Said((), ejected=[URL])))["ejected"]
    assert (await second.server.share(Said(())))["ejected"] == [URL]
    await first.server.share(Said(()))
    assert not (await second.server.share(Said(())))["ejected"]
    await third.server.share(Said((), ejected=[URL]))
    time.now += TTL + 0.1
    assert not (await second.server.share(Said(())))["ejected"]  # it is gone, and so is what it knew


async def test_a_call_that_arrives_late_changes_nothing(proxies: list[Proxy], redis: RedisServer, time: Time) -> None:
    proxy = proxies[0]
    proxy.waiting = {"a": 2}
    await proxy.call()
    late = new_proxy(redis, time).server
    late.proxy = proxy.server.proxy
    assert await late.share(Said([(URL, 4, 0, 0, 0)])) == {"late": True}
    await late.aclose()
    proxy.waiting = {}
    proxies[1].waiting = {"b": 9}
    await proxies[1].call()
    assert proxies[1].held == 2
