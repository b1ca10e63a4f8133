"""proxy/pool/selection.py."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel import selection_strategies
from proxy.pool.selection import BOUND, SLACK, STRATEGIES, Candidate, Choice, Wait, choose


def zero() -> float:
    return 0.0


def c(name: str, load: float = 0.0, **more: Any) -> Candidate:
    return Candidate(name=name, load=load, **more)


WARM: dict[str, Any] = {"residency": "loaded"}
DOWN: dict[str, Any] = {"usable": False, "alive": False}
FULL: dict[str, Any] = {"free": False}


@pytest.mark.parametrize(
    ("candidates", "tried", "expected"),
    [
        # none, one
        ([], [], None),
        ([c("a")], [], Choice("a", "only")),
        ([c("a")], ["a"], Choice("a", "only")),
        ([c("a", **FULL)], [], Wait("slots")),
        # who has the model
        ([c("a", has_model=False), c("b", 9)], [], Choice("b", "only")),
        ([c("a", has_model=None), c("b", 9)], [], Choice("b", "only")),
        ([c("a", has_model=None), c("b", has_model=False)], [], Choice("a", "only")),
        ([c("a", has_model=None), c("b", 9)], ["b"], Choice("a", "only")),
        ([c("a", 1, has_model=False), c("b", has_model=False)], [], Choice("b", "cold")),
        # who can be used
        ([c("a", **DOWN), c("b", 9)], [], Choice("b", "only")),
        ([c("a", **DOWN), c("b", 9)], ["b"], Choice("b", "only")),
        ([c("a", 1, **DOWN), c("b", **DOWN)], [], Choice("b", "last_hope")),
        ([c("a", 1, **DOWN), c("b", **DOWN)], ["b"], Choice("a", "last_hope")),
        # … and one that is down but has the model before one that has not: "no such model" would be a lie
        ([c("a", **DOWN), c("b", has_model=False)], [], Choice("a", "last_hope")),
        ([c("a", **DOWN), c("b", has_model=None)], [], Choice("b", "only")),
        ([c("a", has_model=False, **DOWN), c("b", has_model=False)], [], Choice("b", "only")),
        ([c("a", has_model=False, **DOWN)], [], Choice("a", "last_hope")),
        # once tried, those that are ejected before the same one again, and that before those that are down
        ([c("a"), c("b", usable=False), c("c", **DOWN)], ["a"], Choice("b", "last_hope")),
        ([c("a"), c("b", usable=False), c("c", **DOWN)], ["a", "b"], Choice("a", "only")),
        ([c("a"), c("b", usable=False, **FULL)], ["a"], Choice("a", "only")),
        ([c("a"), c("b", usable=False, has_model=False)], ["a"], Choice("a", "only")),
        ([c("a", usable=False), c("b", **DOWN)], [], Choice("a", "last_hope")),
        # suspects behind those that are up
        ([c("a", suspect=True, **WARM), c("b", 9)], [], Choice("b", "cold")),
        ([c("a", suspect=True), c("b", 9, **FULL)], [], Choice("a", "cold")),
        ([c("a", suspect=True), c("b", 9, suspect=True)], [], Choice("a", "cold")),
        # tried ones only when no other is left
        ([c("a"), c("b", 9)], ["a"], Choice("b", "only")),
        ([c("a", 1), c("b")], ["a", "b"], Choice("b", "cold")),
        # residency
        ([c("a", 1), c("b", 2, **WARM)], [], Choice("b", "resident")),
        ([c("a", **WARM), c("b", residency="loading")], [], Choice("a", "resident")),
        ([c("a"), c("b", 1, residency="loading")], [], Choice("b", "loading")),
        ([c("a", 1, **WARM), c("b", **WARM)], [], Choice("b", "resident")),
        # … but bounded: 12 is more than 1.25 times the mean of 6, and four
        ([c("a"), c("b", 12, **WARM)], [], Choice("a", "cold")),
        ([c("a"), c("b", 10, **WARM)], [], Choice("b", "resident")),
        # affinity within what residency leaves open
        ([c("a", 1, affinity=True, **WARM), c("b", **WARM)], [], Choice("a", "affinity")),
        ([c("a", 1, affinity=True, **WARM), c("b", 1, affinity=True, **WARM)], [], Choice("a", "resident")),
        ([c("a", affinity=True, **WARM), c("b")], [], Choice("a", "resident")),
        ([c("a", 1, affinity=True), c("b", **WARM)], [], Choice("b", "resident")),
        # cold: where the least is lost
        ([c("a", loss=10.0), c("b", 1, loss=5.0)], [], Choice("b", "cold")),
        ([c("a", loss=10.0), c("b", 1)], [], Choice("b", "cold")),
        ([c("a", 1, loss=5.0), c("b", loss=5.0)], [], Choice("b", "cold")),
        # latency
        ([c("a", slowness=2.0, **WARM), c("b", slowness=0.5, **WARM)], [], Choice("b", "resident")),
        ([c("a", 1, slowness=0.5, **WARM), c("b", **WARM)], [], Choice("a", "resident")),
        # what one more request would come to: the heavy one takes it more easily
        ([c("a", step=1.0), c("b", step=0.25)], [], Choice("b", "cold")),
        ([c("a", step=10.0), c("b", 5)], [], Choice("b", "cold")),
    ],
)
def test_choice(candidates: list[Candidate], tried: list[str], expected: object) -> None:
    assert choose(candidates, tried=tried, random=zero) == expected


@pytest.mark.parametrize(
    ("candidates", "patience", "expected"),
    [
        ([c("a"), c("b", **WARM, **FULL)], 4, Wait("warm")),
        ([c("a"), c("b", residency="loading", **FULL)], 1, Wait("warm")),
        ([c("a"), c("b", **WARM, **FULL)], 0, Choice("a", "cold")),
        ([c("a"), c("b", **WARM, **FULL)], None, Choice("a", "cold")),
        ([c("a", **WARM), c("b", **WARM, **FULL)], 4, Choice("a", "resident")),
        ([c("a"), c("b", **FULL)], 4, Choice("a", "cold")),
        ([c("a", **FULL), c("b", **WARM, **FULL)], 0, Wait("slots")),
        ([c("a"), c("b", suspect=True, **WARM, **FULL)], 4, Choice("a", "cold")),
        ([c("a", **DOWN), c("b", **DOWN, **WARM, **FULL)], 4, Choice("a", "last_hope")),
        ([c("a", **DOWN, **FULL)], 4, Wait("slots")),
    ],
)
def test_whether_to_wait(candidates: list[Candidate], patience: int | None, expected: object) -> None:
    assert choose(candidates, patience=patience, random=zero) == expected


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [
        (("least_busy",), Choice("c", "least_busy")),
        (("affinity", "least_busy"), Choice("b", "affinity")),
        (("affinity", "resident"), Choice("b", "affinity")),
        (("resident",), Choice("a", "resident")),
        (("resident", "affinity"), Choice("a", "resident")),
        (("least_busy", "resident"), Choice("c", "least_busy")),
    ],
)
def test_the_operators_order(prefer: tuple[str, ...], expected: Choice) -> None:
    candidates = [c("a", 2, **WARM), c("b", 2, affinity=True), c("c", 1)]
    assert choose(candidates, prefer=prefer, random=zero) == expected


def test_ties_fall_at_random() -> None:
    rng = random.Random(7)
    chosen = [choose([c("a"), c("b"), c("c")], random=rng.random) for _ in range(100)]
    assert {choice.name for choice in chosen if isinstance(choice, Choice)} == {"a", "b", "c"}


candidate = st.builds(
    Candidate,
    name=st.uuids().map(str),
    load=st.floats(0, 100),
    free=st.booleans(),
    usable=st.booleans(),
    alive=st.booleans(),
    suspect=st.booleans(),
    has_model=st.sampled_from([True, False, None]),
    residency=st.sampled_from(["loaded", "loading", "cold"]),
    affinity=st.booleans(),
    step=st.floats(0.01, 10),
    slowness=st.floats(0.5, 2),
    loss=st.floats(0, 1000),
)


@given(st.lists(candidate, min_size=1, max_size=8), st.data())
def test_what_always_holds(candidates: list[Candidate], data: st.DataObject) -> None:
    names = [one.name for one in candidates]
    tried = data.draw(st.lists(st.sampled_from(names), unique=True))
    patience = data.draw(st.sampled_from([None, 0, 1, 4]))
    made = choose(candidates, tried=tried, patience=patience, random=zero)
    if isinstance(made, Wait):
        return
    assert made is not None
    (chosen,) = (one for one in candidates if one.name == made.name)
    assert chosen.free
    if not chosen.usable:
        assert not any(one.usable and one.has_model is not False and one.name not in tried for one in candidates)
    others = [one for one in candidates if one.usable and one.has_model and one.name not in tried]
    assert chosen.name not in tried or not others
    assert chosen.has_model is not False or not any(one.usable and one.has_model for one in candidates)


@given(st.lists(st.tuples(st.floats(0, 50), st.booleans()), min_size=2, max_size=8))
def test_nothing_piles_up(state: list[tuple[float, bool]]) -> None:
    """A warm backend far above the mean is never chosen before one at or below it."""
    candidates = [c(str(n), load, residency="loaded" if warm else "cold") for n, (load, warm) in enumerate(state)]
    made = choose(candidates, random=zero)
    assert isinstance(made, Choice)
    mean = sum(one.load for one in candidates) / len(candidates)
    assert candidates[int(made.name)].load <= BOUND * mean + SLACK


def test_every_strategy_that_the_policy_file_may_name_has_its_function() -> None:
    assert STRATEGIES.keys() == selection_strategies.STRATEGIES.keys()
    assert set(selection_strategies.DEFAULT_ORDER) <= STRATEGIES.keys()
    for name, function in STRATEGIES.items():
        assert function.__name__ == name


def test_a_strategy_that_is_added_to_the_table_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_letter(group: Sequence[Candidate], bound: float) -> tuple[Sequence[Candidate], str]:
        least = min(one.name for one in group)
        return [one for one in group if one.name == least], "first_letter"

    monkeypatch.setitem(STRATEGIES, "first_letter", first_letter)
    made = choose([c("b"), c("a", 3), c("c", 1)], prefer=("first_letter", "least_busy"), random=zero)
    assert made == Choice("a", "first_letter")
