"""proxy/fleet/fleet.py, on a real server; whole proxies are in tests/live/test_fleet.py."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest

from proxy.fleet.fleet import Fleet
from proxy.fleet.proxy_parts import Shared
from proxy.fleet.server import Said
from proxy.kernel.shared_line import Demand
from proxy.pool.backend import Backend
from tests.support.backend import eventually
from tests.support.options import health_rules, make_backend
from tests.support.redis import RedisServer, redis_server

SLOTS = 4
URL = "http://127.0.0.1:1"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as started:
        yield started


def backend(slots: int | None = SLOTS) -> Backend:
    return make_backend("gpu", URL, slots=slots, rules=health_rules())


class Retries:
    """A budget that counts what it is given."""

    saved = 0.0
    proxies = 1

    def move(self, by: float) -> None:
        self.saved += by

    def shared_by(self, proxies: int) -> None:
        self.proxies = proxies


class One:
    """A proxy with one backend, and so many who wait: its pool and its queue."""

    def __init__(self, server: RedisServer, one: Backend) -> None:
        self.backend = one
        self.backends: list[Shared] = [one]
        self.leaving: list[Shared] = []
        self.waiting = 0
        self.news = 0
        self.hints: list[str] = []
        self.retries = Retries()
        self.fleet = Fleet(server.url, self, self, self.retries)

    def changed(self) -> None:
        self.news += 1

    def usual_seconds(self) -> float:
        return 0.0

    def hint(self, name: str) -> None:
        self.hints.append(name)

    def granted(self, _: Sequence[str]) -> None:
        self._use()

    def demands(self) -> list[Demand]:
        return [Demand("t", 0, 1.0, 1, self.waiting, 0.0, (URL,))] if self.waiting else []

    def _use(self) -> None:
        while self.waiting and not self.backend.full:
            self.waiting -= 1
            self.backend.slot_taken()

    def wait(self, number: int) -> None:
        self.waiting += number
        self.fleet.changed()

    def end(self, number: int = 1) -> None:
        for _ in range(number):
            self.backend.slot_freed()
        self.fleet.freed()


@asynccontextmanager
async def proxy(server: RedisServer, one: Backend | None = None) -> AsyncIterator[One]:
    found = One(server, one or backend())
    found.fleet.start()
    try:
        yield found
    finally:
        await found.fleet.aclose()


async def test_a_permit_goes_from_one_proxy_to_the_other_as_its_request_ends(server: RedisServer) -> None:
    async with proxy(server) as first, proxy(server) as second:
        first.wait(SLOTS)
        await eventually(lambda: first.backend.active == SLOTS)
        second.wait(1)
        await eventually(lambda: first.backend.contended)
        first.end()
        assert first.backend.permits == SLOTS - 1
        await eventually(lambda: second.backend.active == 1)
        assert (first.fleet.proxies, second.fleet.proxies) in ((1, 2), (2, 2))


async def test_a_permit_that_is_not_used_goes_back_after_a_while(server: RedisServer) -> None:
    async with proxy(server) as first, proxy(server) as second:
        first.wait(SLOTS)
        await eventually(lambda: first.backend.active == SLOTS)
        first.end(SLOTS)
        assert first.backend.permits == SLOTS
        await eventually(lambda: first.backend.permits == 0)
        second.wait(SLOTS)
        await eventually(lambda: second.backend.active == SLOTS)


async def test_a_request_that_does_not_queue_asks(server: RedisServer) -> None:
    async with proxy(server) as one:
        await one.fleet.ask(Demand("", 0, 1.0, 0, 1, 0.0, (URL,)))
        assert one.backend.permits == 1


async def test_nobody_waits_for_an_answer_of_a_server_that_is_away(server: RedisServer) -> None:
    async with proxy(server) as one:
        server.kill()
        one.fleet.changed()
        await eventually(lambda: not one.fleet.up)
        asking = one.fleet.ask(Demand("", 0, 1.0, 0, 1, 0.0, (URL,)))
        with pytest.raises(StopIteration):
            asking.send(None)


async def test_a_backend_that_gets_or_loses_its_slots_by_a_reload_is_shared_or_not(server: RedisServer) -> None:
    async with proxy(server) as one:
        one.wait(1)
        await eventually(lambda: one.backend.active == 1)
        one.backend.slots = None
        one.fleet.changed()
        await eventually(lambda: one.backend.permits is None)
        one.backend.slots = 1
        one.fleet.changed()
        await eventually(lambda: one.backend.permits == 1)


async def test_what_was_given_back_while_redis_was_away_is_not_missing_afterwards(server: RedisServer) -> None:
    async with proxy(server) as one:
        one.wait(2)
        await eventually(lambda: one.backend.active == 2)
        server.kill()
        one.fleet.changed()
        await eventually(lambda: not one.fleet.up)
        one.end(2)
        one.wait(SLOTS + 1)
        await eventually(lambda: one.backend.active == SLOTS)
        server.start()
        await eventually(lambda: one.fleet.up)
        one.end(1)
        await eventually(lambda: one.waiting == 0)
        assert one.backend.active == SLOTS


async def test_what_others_give_back_is_news_for_deferred_requests(server: RedisServer) -> None:
    """They wait for room, and ask for no permit before they see some."""
    async with proxy(server) as first, proxy(server) as second:
        first.wait(SLOTS)
        await eventually(lambda: first.backend.active == SLOTS)
        await eventually(lambda: not second.backend.could_have("room"))
        assert not second.news
        first.end(SLOTS)
        await eventually(lambda: second.news > 0)
        assert second.backend.could_have("room")


async def test_without_redis_there_is_room_as_far_as_the_share_goes(server: RedisServer) -> None:
    async with proxy(server) as one:
        one.wait(SLOTS)
        await eventually(lambda: one.backend.active == SLOTS)
        server.kill()
        await eventually(lambda: not one.fleet.up)
        one.end(1)
        assert one.backend.could_have("room")


async def test_saved_retries_and_ejections_go_along(server: RedisServer) -> None:
    async with proxy(server) as first, proxy(server) as second:
        await eventually(lambda: first.retries.proxies == second.retries.proxies == 2)
        first.retries.saved += 10.0
        first.backend.health.eject(0.0, "errors")
        await eventually(lambda: second.retries.saved >= 2.5)
        await eventually(lambda: second.hints == ["gpu"])
        await eventually(lambda: first.retries.saved + second.retries.saved <= 10.0 + 1e-9)  # a reply may be on its way
        assert not first.hints


async def test_who_waits_behind_others_is_told_with_the_next_call(server: RedisServer) -> None:
    async with proxy(server) as first, proxy(server) as second:
        first.wait(SLOTS)
        await eventually(lambda: first.backend.active == SLOTS)
        second.wait(1)
        await eventually(lambda: first.backend.contended)
        second.waiting += 1
        second.fleet.changed(behind=True)
        first.end(2)
        await eventually(lambda: second.backend.active == 2)


@pytest.mark.parametrize("renamed", [False, True])
async def test_slots_of_a_backend_that_a_reload_removes_go_to_others_as_its_requests_end(
    server: RedisServer, renamed: bool
) -> None:
    async with proxy(server) as first, proxy(server) as second:
        first.wait(2)
        await eventually(lambda: first.backend.active == 2)
        second.wait(SLOTS + 2)
        await eventually(lambda: second.backend.active == SLOTS - 2)
        first.leaving, first.backends = [first.backend], [backend()] if renamed else []
        first.fleet.changed()
        await told_twice(first)
        assert second.backend.active == SLOTS - 2
        first.end()
        await eventually(lambda: second.backend.active == SLOTS - 1)
        first.end()
        await eventually(lambda: second.backend.active == SLOTS)


async def test_a_permit_granted_for_a_backend_that_was_just_removed_goes_to_others(server: RedisServer) -> None:
    async with proxy(server) as first, proxy(server) as second:
        second.wait(SLOTS)
        await eventually(lambda: second.backend.active == SLOTS)
        first.wait(1)
        await eventually(lambda: second.backend.contended)
        first.backends, first.waiting = [], 0
        second.end()
        second.wait(1)
        await eventually(lambda: second.backend.active == SLOTS)


async def test_a_permit_granted_while_a_call_is_under_way_goes_back_as_soon_as_it_is_free(server: RedisServer) -> None:
    async with proxy(server) as first, proxy(server) as second:
        second.wait(SLOTS)
        await eventually(lambda: second.backend.active == SLOTS)
        first.wait(1)
        await eventually(lambda: second.backend.contended)
        share = first.fleet._server.share

        async def slow(said: Said, **more: bool) -> dict[str, Any]:
            reply = await share(said, **more)
            first.fleet._server.share = share  # type: ignore[method-assign]
            first.fleet._next = lambda: monotonic() + 3600  # type: ignore[method-assign]  # no call but for news
            second.end()
            await eventually(lambda: first.backend.active == 1)
            return reply

        first.fleet._server.share = slow  # type: ignore[method-assign]
        first.fleet.changed()
        await eventually(lambda: first.backend.active == 1 and first.fleet._server.share == share)
        second.wait(1)
        await eventually(lambda: first.backend.contended)
        first.end()
        assert first.fleet._wake.is_set()  # else the permit would come back only when the proxy is taken for dead
        await eventually(lambda: second.backend.active == SLOTS)


async def told_twice(one: One) -> None:
    """Return when the server has replied to two more calls of this proxy."""
    told = asyncio.Event()
    share, left = one.fleet._server.share, 2

    async def counted(said: Said, **more: bool) -> dict[str, Any]:
        nonlocal left
        reply = await share(said, **more)
        left -= 1
        if not left:
            told.set()
        return reply

    one.fleet._server.share = counted  # type: ignore[method-assign]
    one.fleet.changed()
    await told.wait()
