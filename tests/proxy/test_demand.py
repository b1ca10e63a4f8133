"""Whether most of what somebody asks for has to be refused."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.demand import ENOUGH, MEMORY, Demand, Demands


def noted(refused: int, let_in: int = 0, now: float = 0.0) -> Demand:
    demand = Demand(now)
    for one in [False] * let_in + [True] * refused:
        demand.note(now, refused=one)
    return demand


def test_a_few_refusals_say_nothing() -> None:
    assert not noted(int(ENOUGH) - 1).excessive
    assert noted(int(ENOUGH)).excessive


def test_it_is_excessive_while_most_are_refused() -> None:
    assert not noted(20, 20).excessive
    assert noted(21, 20).excessive


def test_it_is_over_some_time_after_less_is_asked_for() -> None:
    demand, now = noted(200, 100), 0.0
    while demand.excessive:
        now += 1.0
        demand.note(now, refused=False)
    assert MEMORY / 2 < now < 3 * MEMORY
    assert not demand.over
    demand.note(now + 10 * MEMORY, refused=False)
    assert demand.over


@given(st.lists(st.tuples(st.floats(0, 1000), st.booleans()), max_size=50))
def test_it_is_excessive_only_where_most_were_refused_of_late(steps: list[tuple[float, bool]]) -> None:
    demand, now = Demand(0.0), 0.0
    counted = [0.0, 0.0]
    for passed, refused in steps:
        now += passed
        demand.note(now, refused=refused)
        counted[refused] += 1
        assert not demand.excessive or counted[True] >= ENOUGH
        assert not (demand.excessive and demand.over)


def test_only_who_was_refused_is_remembered_and_only_so_many() -> None:
    demands = Demands(3)
    demands.let_in("a", 0.0)
    assert len(demands) == 0
    for who in "abcd":
        for _ in range(10):
            demands.kept_out(who, 0.0)
    assert (len(demands), [demands.excessive(who) for who in "abcd"]) == (3, [False, True, True, True])
    demands.let_in("b", 10 * MEMORY)
    assert (len(demands), demands.excessive("b")) == (2, False)
