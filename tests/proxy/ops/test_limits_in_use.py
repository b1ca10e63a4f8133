"""proxy/ops/limits_in_use.py, around the store in memory."""

import pytest

from proxy.kernel.quotas import Quota, Window
from proxy.kernel.store import StoreUnavailable
from proxy.kernel.units import Rate
from proxy.ops.limits_in_use import REMEMBERED, SHOWN, Board
from proxy.stores.memory import MemoryStore
from proxy.testing import ManualClock


def windows(*rates: str) -> tuple[Window, ...]:
    return tuple(Window(Rate.parse(rate)) for rate in rates)


def quota(key: str, *, requests: str = "10/minute", streams: int | None = None) -> Quota:
    return Quota(key, requests=windows(requests), tokens=windows("1000/day"), streams=streams)


async def test_the_fullest_counter_comes_first_and_unused_ones_do_not() -> None:
    board = Board(MemoryStore(ManualClock()))
    for _ in range(3):
        await board.admit([quota("rate_limit/default/identity=alice", streams=2)], 50)
    reservation = (await board.admit([quota("rate_limit/night/tenant=a%20b")])).reservation
    assert reservation is not None
    board.settle(reservation, 0)
    found = [
        (limit.limit, limit.whom, limit.unit, limit.window, limit.used, limit.amount) for limit in await board.in_use()
    ]
    assert found == [
        ("rate_limit", "identity=alice", "streams", None, 2, 2),
        ("rate_limit", "identity=alice", "requests", "minute", 2, 10),
        ("rate_limit night", "tenant=a b", "requests", "minute", 1, 10),
        ("rate_limit", "identity=alice", "tokens", "day", 100, 1000),
    ]


async def test_it_is_the_store_itself_for_everything_else() -> None:
    store = MemoryStore(ManualClock())
    board = Board(store)
    assert (board.url, board.local, board.limits) == ("memory", store, store.limits)
    await board.connect()
    one = quota("a/b/c")
    await board.admit([one])
    assert await board.look([one]) == await store.look([one])
    await board.aclose()


async def test_so_many_are_remembered_and_the_latest_shown() -> None:
    board = Board(MemoryStore(ManualClock()))
    for number in range(REMEMBERED + 10):
        await board.admit([quota(f"rate_limit/default/identity={number}")])
    await board.admit([quota("rate_limit/default/identity=0")])
    found = await board.in_use()
    assert len(found) == SHOWN
    assert found[0].whom == "identity=0"
    assert len(board._quotas) == REMEMBERED


async def test_what_is_no_limit_is_not_shown() -> None:
    board = Board(MemoryStore(ManualClock()))
    await board.admit([Quota("ollama-signature/abc", requests=windows("1/minute"))])
    assert await board.in_use() == []


async def test_a_store_that_is_away_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore(ManualClock())
    board = Board(store)
    await board.admit([quota("a/b/c")])

    async def away(quotas: object) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(store, "look", away)
    assert await board.in_use() == []
