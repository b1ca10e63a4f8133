import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.auth import provider_queue as places_module
from middleware.auth.caller import NotLetIn
from middleware.auth.provider_queue import (
    AT_ONCE,
    LINE_AT_ONCE,
    LINE_LENGTH,
    PATIENCE,
    STRANGERS_AT_ONCE,
    Places,
    Rank,
)


class Crowd:
    """Callers who hold their places until they are told to go, and in which order they got them."""

    def __init__(self) -> None:
        self.places = Places()
        self.order: list[str] = []
        self.running: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, address: str, rank: Rank = Rank.NEW, number: int = 1) -> None:
        for _ in range(number):
            name = f"{address}{len(self.tasks)}"
            self.tasks[name] = asyncio.create_task(self._hold(name, address, rank))
        await settle()

    async def _hold(self, name: str, address: str, rank: Rank) -> None:
        async with self.places.place(address, rank):
            self.order.append(address)
            self.running[name] = asyncio.Event()
            await self.running[name].wait()
            del self.running[name]

    async def end(self, number: int = 1) -> None:
        """Let those go who hold a place, one after the other, the first first."""
        for _ in range(number):
            next(iter(self.running.values())).set()
            await settle()

    async def end_all(self) -> None:
        while self.running:
            await self.end()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    def empty(self) -> bool:
        places = self.places
        return not (
            places._all or places._strangers or places._running or places._waiting or any(places._lines.values())
        )


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_address_leaves_places_to_others() -> None:
    crowd = Crowd()
    await crowd.come("a", number=100)
    assert crowd.order == ["a"] * LINE_AT_ONCE
    await crowd.come("b")
    assert crowd.order[LINE_AT_ONCE:] == ["b"]
    await crowd.end_all()
    assert crowd.empty()


async def test_strangers_leave_places_to_who_is_known() -> None:
    crowd = Crowd()
    for address in "abcdefgh":
        await crowd.come(address, number=10)
    assert len(crowd.running) == STRANGERS_AT_ONCE
    await crowd.come("known", Rank.KNOWN, number=10)
    assert crowd.order.count("known") == AT_ONCE - STRANGERS_AT_ONCE
    await crowd.end_all()
    assert crowd.order.count("known") == 10
    assert crowd.empty()


async def test_the_lines_of_a_rank_take_turns() -> None:
    crowd = Crowd()
    await crowd.come("a", number=50)
    await crowd.come("b", number=50)
    await crowd.come("c")
    before = len(crowd.order)
    await crowd.end(4)
    assert sorted(crowd.order[before : before + 3]) == ["a", "b", "c"]
    await crowd.end_all()


async def test_a_better_rank_goes_first_but_not_for_ever() -> None:
    crowd = Crowd()
    await crowd.come("x", number=LINE_AT_ONCE)
    await crowd.come("y", number=STRANGERS_AT_ONCE - LINE_AT_ONCE)
    await crowd.come("doubted", Rank.DOUBTED, number=3)
    for address in "abcdefghijklmnopqrs":
        await crowd.come(address, Rank.TRUSTED, number=2)
    before = len(crowd.order)
    await crowd.end(PATIENCE + 1)
    assert crowd.order[before : before + PATIENCE].count("doubted") == 0
    assert crowd.order[before + PATIENCE] == "doubted"
    await crowd.end_all()
    assert crowd.empty()


async def test_a_line_is_not_longer_than_that() -> None:
    crowd = Crowd()
    await crowd.come("a", number=LINE_AT_ONCE + LINE_LENGTH + 1)
    refused = [task for task in crowd.tasks.values() if task.done()]
    assert len(refused) == 1
    error = refused[0].exception()
    assert isinstance(error, NotLetIn)
    assert (error.status, error.headers["retry-after"]) == (429, "1")
    await crowd.end_all()
    assert crowd.empty()


async def test_where_all_lines_are_full_the_worst_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places_module, "WAITING", 4)
    crowd = Crowd()
    await crowd.come("x", number=LINE_AT_ONCE)
    await crowd.come("y", number=STRANGERS_AT_ONCE - LINE_AT_ONCE)
    await crowd.come("a", Rank.DOUBTED, number=1)
    await crowd.come("b", Rank.DOUBTED, number=3)
    await crowd.come("c", Rank.DOUBTED)
    assert [name[0] for name, task in crowd.tasks.items() if task.done()] == ["c"]  # no better than who waits
    await crowd.come("d", Rank.TRUSTED)
    assert sorted(name[0] for name, task in crowd.tasks.items() if task.done()) == ["b", "c"]
    await crowd.end_all()
    assert "d" in crowd.order
    assert crowd.empty()


async def test_a_line_changes_its_rank_with_its_address() -> None:
    crowd = Crowd()
    await crowd.come("x", number=LINE_AT_ONCE)
    await crowd.come("y", number=STRANGERS_AT_ONCE - LINE_AT_ONCE)
    await crowd.come("wrong", Rank.NEW, number=2)
    await crowd.come("new", Rank.NEW, number=2)
    crowd.places.rank("wrong", Rank.DOUBTED)
    crowd.places.rank("nobody", Rank.DOUBTED)
    before = len(crowd.order)
    next(task for name, task in reversed(crowd.tasks.items()) if name.startswith("wrong")).cancel()
    await crowd.end(3)
    assert crowd.order[before:] == ["new", "new", "wrong"]
    await crowd.end_all()
    assert crowd.empty()


moves = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.sampled_from("abcde"), st.sampled_from(list(Rank)), st.integers(1, 12)),
        st.tuples(st.just("end"), st.integers(1, 5)),
        st.tuples(st.just("rank"), st.sampled_from("abcde"), st.sampled_from([Rank.TRUSTED, Rank.DOUBTED])),
        st.tuples(st.just("cancel"), st.integers(0, 100), st.booleans()),
    ),
    max_size=30,
)


@given(moves=moves)
def test_whatever_happens_bounds_hold_and_nobody_is_left_over(moves: list[tuple[object, ...]]) -> None:
    asyncio.run(play(moves))


async def play(moves: list[tuple[object, ...]]) -> None:
    crowd = Crowd()
    for move in moves:
        match move:
            case ("come", str(address), Rank() as rank, int(number)):
                await crowd.come(address, rank, number)
            case ("end", int(number)):
                await crowd.end(min(number, len(crowd.running)))
            case ("rank", str(address), Rank() as rank):
                crowd.places.rank(address, rank)
            case ("cancel", int(which), bool(at_once)):
                left = [task for task in crowd.tasks.values() if not task.done()]
                if left:
                    if at_once and crowd.running:  # a place comes free in the same turn as somebody leaves
                        next(iter(crowd.running.values())).set()
                        await asyncio.sleep(0)
                    left[which % len(left)].cancel()
                    await settle()
        assert crowd.places._all <= AT_ONCE
        assert crowd.places._strangers <= STRANGERS_AT_ONCE
        assert all(count <= LINE_AT_ONCE for count in crowd.places._running.values())
    for task in list(crowd.tasks.values())[::3]:
        task.cancel()
    await settle()
    crowd.running = {name: event for name, event in crowd.running.items() if not crowd.tasks[name].done()}
    await crowd.end_all()
    assert crowd.empty()
