"""proxy/stores/leases.py, without a server."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from proxy.kernel.quotas import Lease
from proxy.kernel.store import StoreUnavailable
from proxy.stores.leases import BATCH, DEBTS, Keeper


class Server:
    def __init__(self) -> None:
        self.up = True
        self.renewed: list[list[str]] = []
        self.settled: list[tuple[str, int, bool]] = []
        self.asked = asyncio.Event()
        self.while_renewing: list[Lease] = []

    async def renew(self, leases: Sequence[Lease]) -> None:
        self.asked.set()
        if not self.up:
            raise StoreUnavailable
        self.renewed.append([lease.id for lease in leases])
        for lease in self.while_renewing:
            self.keeper.drop(lease)
        await asyncio.sleep(0)

    async def settle(self, lease: Lease, tokens: int, again: bool) -> None:
        self.asked.set()
        if not self.up:
            raise StoreUnavailable
        self.settled.append((lease.id, tokens, again))

    async def wait(self) -> None:
        async with asyncio.timeout(5):
            await self.asked.wait()
        self.asked.clear()

    keeper: Keeper


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    made.keeper = Keeper(made.renew, made.settle, every=0.005)
    yield made
    await made.keeper.aclose()


def lease(name: str) -> Lease:
    return Lease(name, (), 0)


async def test_what_is_held_is_renewed_until_it_is_dropped(server: Server) -> None:
    server.keeper.hold(lease("a"))
    server.keeper.hold(lease("b"))
    await server.wait()
    server.keeper.drop(lease("a"))
    await server.wait()
    await server.wait()
    assert server.renewed[0] == ["a", "b"]
    assert server.renewed[-1] == ["b"]


async def test_renewals_come_in_batches(server: Server) -> None:
    for number in range(BATCH + 1):
        server.keeper.hold(lease(str(number)))
    async with asyncio.timeout(5):
        while len(server.renewed) < 2:
            await server.wait()
    assert [len(batch) for batch in server.renewed[:2]] == [BATCH, 1]


async def test_the_task_ends_when_nothing_is_held_and_begins_again(server: Server) -> None:
    before = asyncio.all_tasks()
    server.keeper.hold(lease("a"))
    server.keeper.drop(lease("a"))
    async with asyncio.timeout(5):
        await asyncio.wait(asyncio.all_tasks() - before)
    server.keeper.hold(lease("b"))
    await server.wait()
    assert server.renewed[-1] == ["b"]


async def test_debts_are_paid_when_the_server_is_back(server: Server) -> None:
    server.up = False
    server.keeper.owe(lease("a"), 5)
    server.keeper.owe(lease("b"), 7)
    await server.wait()
    await server.wait()
    assert server.settled == []
    server.up = True
    server.keeper.wake()
    async with asyncio.timeout(5):
        while len(server.settled) < 2:
            await server.wait()
    assert server.settled == [("a", 5, True), ("b", 7, True)]


async def test_a_lease_settled_while_its_renewal_was_on_its_way_is_ended_once_more(server: Server) -> None:
    held = lease("a")
    server.while_renewing = [held]
    server.keeper.hold(held)
    async with asyncio.timeout(5):
        while not server.settled:
            await server.wait()
    assert server.settled == [("a", 0, True)]


async def test_closing_pays_what_it_can(server: Server) -> None:
    server.keeper.owe(lease("a"), 5)
    await server.keeper.aclose()
    assert server.settled == [("a", 5, True)]


async def test_a_server_that_stays_away_does_not_fill_memory(server: Server) -> None:
    server.up = False
    for number in range(DEBTS + 10):
        server.keeper.owe(lease(str(number)), 1)
    assert repr(server.keeper) == f"<Keeper 0 leases held, {DEBTS} to settle>"
    server.keeper._owed.clear()
