"""proxy/body.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.body import BodyBudget
from proxy.errors import Refused


def test_one_body_has_a_bound() -> None:
    budget = BodyBudget(each=10, total=100)
    budget.hold(6)
    budget.hold(4, already=6)
    with pytest.raises(Refused) as caught:
        budget.hold(1, already=10)
    assert caught.value.status == 413
    assert budget.held == 10


def test_all_bodies_together_have_a_bound() -> None:
    budget = BodyBudget(each=10, total=15)
    budget.hold(10)
    with pytest.raises(Refused) as caught:
        budget.hold(6)
    assert (caught.value.status, caught.value.code) == (503, "body_memory_exhausted")
    assert caught.value.headers == {"retry-after": "1"}
    assert budget.held == 10
    budget.release(10)
    budget.hold(6)
    assert budget.held == 6


@given(st.lists(st.integers(0, 12), max_size=30))
def test_it_never_holds_more_than_it_may(sizes: list[int]) -> None:
    budget = BodyBudget(each=10, total=25)
    held = 0
    for size in sizes:
        try:
            budget.hold(size)
        except Refused:
            continue
        held += size
        assert budget.held == held <= 25
    budget.release(held)
    assert budget.held == 0


def test_it_shows_what_it_holds() -> None:
    budget = BodyBudget(each=10, total=25)
    budget.hold(3)
    assert repr(budget) == "<BodyBudget 3 of 25 bytes held, 10 each>"
