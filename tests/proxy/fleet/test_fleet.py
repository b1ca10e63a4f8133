"""proxy/fleet/fleet.py, on a real server; whole proxies are in tests/live/test_fleet.py."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from proxy.fleet.fleet import Fleet, Shared
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


class One:
    """A proxy with one backend, and so many who wait."""

    def __init__(self, server: RedisServer, one: Backend) -> None:
        self.backend = one
        self.backends: list[Shared] = [one]
        self.waiting = 0
        self.fleet = Fleet(server.url, lambda: self.backends, self._demands, lambda _: self._use())

    def _demands(self) -> list[Demand]:
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
