"""proxy/journal/turns.py."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.journal.turns import Turn, Turns


def filled(*turns: Turn) -> Turns:
    made = Turns()
    for turn in turns:
        made.add(turn)
    return made


def order(turns: Turns, now: float = 0.0) -> list[str]:
    found = []
    while (turn := turns.next(now)) is not None:
        found.append(turn.id)
    return found


def test_tenants_take_turns_and_each_keeps_its_order() -> None:
    turns = filled(*(Turn(f"{tenant}{number}", tenant, number) for tenant in "ab" for number in range(3)))
    assert order(turns) == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_a_tenant_gets_what_its_weight_says() -> None:
    turns = filled(
        *(Turn(f"a{number}", "a", number, cost=10) for number in range(100)),
        *(Turn(f"b{number}", "b", number, cost=20, weight=3.0) for number in range(100)),
    )
    had: Counter[str] = Counter()
    for _ in range(50):
        turn = turns.next(0.0)
        assert turn is not None
        had[turn.tenant] += turn.cost
    assert had["b"] / had["a"] == pytest.approx(3, rel=0.1)


def test_a_tenant_that_comes_one_by_one_does_not_shake_off_what_it_has_had() -> None:
    turns = filled(*(Turn(f"b{number}", "b", number) for number in range(100)))
    had: Counter[str] = Counter()
    for number in range(40):
        turns.add(Turn(f"a{number}", "a", number, cost=3))  # at most one waits
        turn = turns.next(0.0)
        assert turn is not None
        had[turn.tenant] += turn.cost
        turns.remove(f"a{number}")
    assert had["a"] <= had["b"] + 3


def test_an_entry_that_is_not_ready_lets_others_pass() -> None:
    turns = filled(Turn("a", "t", 0, ready_at=10.0), Turn("b", "t", 1))
    assert turns.ready_in(0.0) == 0.0
    assert order(turns) == ["b"]
    assert turns.ready_in(4.0) == 6.0
    assert turns.position("a") == 0
    assert order(turns, 10.0) == ["a"]
    assert turns.ready_in(0.0) is None


def test_what_is_given_back_was_not_had() -> None:
    turns = filled(*(Turn(f"{tenant}{number}", tenant, number, cost=100) for tenant in "ab" for number in range(9)))
    first = turns.next(0.0)
    assert first is not None
    turns.add(first)
    turns.give_back(first)
    assert turns.next(0.0) == first


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-1, 1), st.booleans()), max_size=40))
def test_each_entry_comes_once_or_is_taken_out(steps: list[tuple[str, int, bool]]) -> None:
    turns, expected = Turns(), {}
    for number, (tenant, priority, stays) in enumerate(steps):
        turn = Turn(str(number), tenant, number, priority=priority, ready_at=float(number % 3))
        turns.add(turn)
        expected[turn.id] = turn
        if not stays:
            assert turns.remove(turn.id) == turn
            assert turns.remove(turn.id) is None
            del expected[turn.id]
    assert len(turns) == len(expected)
    found = order(turns, 5.0)
    assert sorted(found) == sorted(expected)
    priorities = [expected[name].priority for name in found]
    assert priorities == sorted(priorities, reverse=True)
    assert len(turns) == 0
