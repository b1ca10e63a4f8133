"""proxy/journal/redis_claims.py: the order over partitions; one server's is in test_redis.py."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from proxy.journal.redis_claims import Picker
from proxy.journal.redis_partitions import Partitions


class Scripted:
    """Partitions that answer as they are told, and note what they are asked."""

    def __init__(self, *looks: Sequence[Any], claims: dict[int, list[Any]]) -> None:
        self.looks = looks
        self.claims = claims
        self.reached: list[Any] = []
        self.asked: list[int] = []
        self.count = len(looks)

    async def ask_all(self, name: str, lost_after: str, reached: Any) -> list[Any]:
        assert name == "look"
        self.reached.append(reached)
        return list(self.looks)

    async def ask(self, name: str, place: int, *_args: Any) -> Any:
        assert name == "claim"
        self.asked.append(place)
        return self.claims[place].pop(0) if self.claims.get(place) else None


def look(
    *, open: int = 1, ready: int = 0, lost: int = 0, priority: str = "0", time: str = "0", virtual: str = "0"
) -> list[Any]:
    return [open, ready, lost, priority.encode(), time.encode(), virtual.encode()]


NOTHING = look(open=0, ready=-1, priority="", time="")


def picker(scripted: Scripted) -> Picker:
    return Picker(cast(Partitions, scripted))


@pytest.mark.parametrize(
    ("looks", "first"),
    [
        ([NOTHING, look(time="5"), look(time="3")], 2),
        ([look(time="9", priority="1"), look(time="3"), NOTHING], 0),
        ([look(time="1"), look(time="3", lost=1)], 1),
        ([NOTHING, look(ready=0, priority="", time="")], 1),
    ],
)
async def test_the_partition_that_is_behind_goes_first(looks: list[Any], first: int) -> None:
    scripted = Scripted(*looks, claims={first: ["claim"]})
    assert await picker(scripted).pick("one", 3, 30) == (first, "claim")
    assert scripted.asked == [first]


async def test_where_another_was_faster_the_next_is_asked() -> None:
    scripted = Scripted(look(time="1"), look(time="2"), NOTHING, claims={1: ["claim"]})
    assert await picker(scripted).pick("one", 3, 30) == (1, "claim")
    assert scripted.asked == [0, 1]
    assert await picker(Scripted(NOTHING, NOTHING, claims={})).pick("one", 3, 30) is None


async def test_a_script_that_had_too_much_to_end_is_called_again() -> None:
    scripted = Scripted(NOTHING, claims={0: [b"again", b"again", "claim"]})
    assert await picker(scripted).pick("one", 3, 30) == (0, "claim")


async def test_each_is_told_how_far_the_furthest_is() -> None:
    scripted = Scripted(look(virtual="7.5"), look(virtual="3"), claims={0: ["claim"]})
    await picker(scripted).pick("one", 3, 30)
    assert scripted.reached == ["", "7.5"]


async def test_open_requests_elsewhere_are_counted_now_and_then() -> None:
    scripted = Scripted(look(open=3), look(open=4), claims={})
    chooser = picker(scripted)
    assert [await chooser.open_elsewhere(place, 0.0) for place in (0, 1, 0)] == [4, 3, 4]
    seen = len(scripted.reached)
    assert seen == 2
    await chooser.open_elsewhere(0, 1.0)
    assert len(scripted.reached) > seen
    assert await picker(Scripted(NOTHING, claims={})).open_elsewhere(0, 0.0) == 0
