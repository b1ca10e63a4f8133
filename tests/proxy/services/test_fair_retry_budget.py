"""proxy/services/fair_retry_budget.py: retries are a bounded share of all requests, whatever fails."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.services.fair_retry_budget import ACCOUNTS, ALONE, FairRetryBudget
from proxy.testing import ManualClock


def test_a_quiet_proxy_can_retry_at_all() -> None:
    clock = ManualClock()
    budget = FairRetryBudget(clock, reserve=2.0, floor=0.5)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    clock.advance(2.0)
    assert [budget.spend() for _ in range(2)] == [True, False]


def test_retries_are_a_share_of_the_requests() -> None:
    budget = FairRetryBudget(ManualClock(), reserve=2.0, floor=0.0)
    spent = 0
    for _ in range(1000):
        budget.earn(0.2)
        budget.done()
        spent += budget.spend()
    assert 200 <= spent <= 202


def test_what_runs_may_be_retried_once_at_once_and_is_paid_for_later() -> None:
    clock = ManualClock()
    budget = FairRetryBudget(clock, reserve=2.0, floor=1.0)
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
    budget = FairRetryBudget(clock, ceiling=10.0, floor=1.0)
    for _ in range(1000):
        budget.earn(1.0)
        budget.done()
    clock.advance(1000.0)
    assert sum(budget.spend() for _ in range(100)) == 10


def test_time_alone_fills_no_more_than_the_reserve() -> None:
    clock = ManualClock()
    budget = FairRetryBudget(clock, reserve=3.0)
    clock.advance(1e6)
    assert sum(budget.spend() for _ in range(100)) == 3
    clock.advance(1e6)
    assert sum(budget.spend() for _ in range(100)) == 3


@given(st.lists(st.one_of(st.none(), st.floats(0, 10)), max_size=200), st.floats(0, 1))
def test_never_more_than_was_earned(steps: list[float | None], ratio: float) -> None:
    """None is a request with as many retries as it gets; a number is time that passes."""
    clock = ManualClock()
    budget = FairRetryBudget(clock, reserve=2.0, floor=0.2)
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


def test_one_caller_leaves_half_of_what_is_saved_to_the_others() -> None:
    clock = ManualClock()
    budget = FairRetryBudget(clock)
    budget.earn(0.0, "modest")
    budget.done("modest")
    for _ in range(200):
        budget.earn(0.2, "greedy")
        while budget.spend("greedy"):
            pass
        budget.done("greedy")
        clock.advance(0.01)
    assert budget._saved >= 5.0
    assert sum(budget.spend("modest") for _ in range(10)) >= 2


def test_who_is_alone_may_take_all() -> None:
    clock = ManualClock()
    budget = FairRetryBudget(clock, reserve=10.0, floor=0.0)
    budget.earn(0.0, "greedy")
    assert sum(budget.spend("greedy") for _ in range(20)) == 11
    budget = FairRetryBudget(clock, reserve=10.0, floor=0.0)
    budget.earn(0.0, "modest")
    budget.earn(0.0, "greedy")
    clock.advance(ALONE)
    assert sum(budget.spend("greedy") for _ in range(20)) == 6
    clock.advance(0.1)
    assert sum(budget.spend("greedy") for _ in range(20)) == 5


def test_what_one_caller_owes_stands_in_nobody_elses_way() -> None:
    """However many requests of one caller run and fail: when a host dies, those of the others move."""
    budget = FairRetryBudget(ManualClock(), reserve=0.0, floor=0.0)
    for _ in range(100):
        budget.earn(0.0, "greedy")
    assert sum(budget.spend("greedy") for _ in range(300)) == 100
    for _ in range(99):
        budget.done("greedy")
    for _ in range(20):
        budget.earn(0.0, "modest")
    assert sum(budget.spend("modest") for _ in range(300)) == 20


def test_callers_of_whom_nothing_is_left_are_forgotten() -> None:
    budget = FairRetryBudget(ManualClock())
    for number in range(3 * ACCOUNTS):
        budget.earn(0.0, f"c{number}")
        budget.spend(f"c{number}")
        budget.done(f"c{number}")
    assert len(budget._accounts) <= ACCOUNTS


CALLERS = st.sampled_from(["a", "b", "c"])


@given(st.lists(st.one_of(CALLERS, st.floats(0, 10)), max_size=200), st.floats(0, 1))
def test_never_more_than_was_earned_by_all(steps: list[str | float], ratio: float) -> None:
    """A name is a request of that caller with as many retries as it gets; a number is time that passes."""
    clock = ManualClock()
    budget = FairRetryBudget(clock, reserve=2.0, floor=0.2)
    requests = spent = 0
    passed = 0.0
    for step in steps:
        if isinstance(step, str):
            requests += 1
            budget.earn(ratio, step)
            while budget.spend(step):
                spent += 1
            budget.done(step)
        else:
            clock.advance(step)
            passed += step
    assert spent <= 4 + ratio * requests + 0.2 * passed + 1e-6  # the reserve, and one owed by each of two


def test_proxies_that_share_a_budget_have_together_what_one_has_alone() -> None:
    clock = ManualClock()
    budgets = [FairRetryBudget(clock, reserve=6.0, ceiling=30.0, floor=3.0) for _ in range(3)]
    for budget in budgets:
        budget.shared_by(3)
        budget.move(-budget.saved)
    clock.advance(1.0)
    assert sum(budget.spend() for budget in budgets for _ in range(9)) == 3  # the floor of one second
    clock.advance(60.0)
    assert sum(budget.spend() for budget in budgets for _ in range(9)) == 6  # the reserve
    budgets[0].move(1000.0)
    assert budgets[0].saved == 10.0  # its part of the ceiling
    budgets[0].move(-10.0)
    assert not budgets[0].spend()
