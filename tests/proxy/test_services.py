"""The retry budget: a bounded share of all requests, whatever fails. And what outlives a reload."""

import gc
import weakref

from hypothesis import given
from hypothesis import strategies as st

from proxy.services import Keepsakes, RetryBudget
from tests.support.clock import ManualClock


def test_a_quiet_proxy_can_retry_at_all() -> None:
    clock = ManualClock()
    budget = RetryBudget(clock, reserve=2.0, floor=0.5)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    clock.advance(2.0)
    assert [budget.spend() for _ in range(2)] == [True, False]


def test_retries_are_a_share_of_the_requests() -> None:
    budget = RetryBudget(ManualClock(), reserve=2.0, floor=0.0)
    spent = 0
    for _ in range(1000):
        budget.earn(0.2)
        budget.done()
        spent += budget.spend()
    assert 200 <= spent <= 202


def test_what_runs_may_be_retried_once_at_once_and_is_paid_for_later() -> None:
    clock = ManualClock()
    budget = RetryBudget(clock, reserve=2.0, floor=1.0)
    for _ in range(100):
        budget.earn(0.0)
    assert sum(budget.spend() for _ in range(300)) == 102
    for _ in range(99):
        budget.done()
    clock.advance(98.0)
    assert not budget.spend()
    clock.advance(5.0)
    assert [budget.spend() for _ in range(5)] == [True, True, True, False, False]


def test_savings_have_a_ceiling() -> None:
    clock = ManualClock()
    budget = RetryBudget(clock, ceiling=10.0, floor=1.0)
    for _ in range(1000):
        budget.earn(1.0)
        budget.done()
    clock.advance(1000.0)
    assert sum(budget.spend() for _ in range(100)) == 10


def test_time_alone_fills_no_more_than_the_reserve() -> None:
    clock = ManualClock()
    budget = RetryBudget(clock, reserve=3.0)
    clock.advance(1e6)
    assert sum(budget.spend() for _ in range(100)) == 3
    clock.advance(1e6)
    assert sum(budget.spend() for _ in range(100)) == 3


@given(st.lists(st.one_of(st.none(), st.floats(0, 10)), max_size=200), st.floats(0, 1))
def test_never_more_than_was_earned(steps: list[float | None], ratio: float) -> None:
    """None is a request with as many retries as it gets; a number is time that passes."""
    clock = ManualClock()
    budget = RetryBudget(clock, reserve=2.0, floor=0.2)
    requests = spent = 0
    passed = 0.0
    for step in steps:
        if step is None:
            requests += 1
            budget.earn(ratio)
            while budget.spend():
                spent += 1
            budget.done()
        else:
            clock.advance(step)
            passed += step
    assert spent <= 3 + ratio * requests + 0.2 * passed + 1e-6


class Learned:
    pass


def test_an_object_is_found_again_while_somebody_holds_it() -> None:
    keepsakes = Keepsakes()
    held = keepsakes.keep("a", Learned)
    assert keepsakes.keep("a", Learned) is held
    assert keepsakes.keep("b", Learned) is not held


def test_an_object_that_nobody_holds_is_gone() -> None:
    keepsakes = Keepsakes()
    gone = weakref.ref(keepsakes.keep("a", Learned))
    gc.collect()
    assert gone() is None
