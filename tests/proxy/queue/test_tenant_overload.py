"""Whether most of what somebody asks for has to be refused."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.queue.tenant_overload import DECAY, ENOUGH, SERVICES, Demand, Demands, Late

LATE = Late(turn=10.0, place=1.0, patience=9.0, service=2.0)


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
    assert DECAY / 2 < now < 3 * DECAY
    assert not demand.over
    demand.note(now + 10 * DECAY, refused=False)
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


def test_it_is_over_as_well_when_nothing_is_asked_for_any_more() -> None:
    demands = Demands(1)
    for _ in range(10):
        demands.kept_out("a", 0.0, LATE)
    assert demands.excessive("a", DECAY / 2)
    assert not demands.excessive("a", DECAY)


def test_where_requests_are_long_it_lasts_for_some_of_them() -> None:
    demands = Demands(1)
    for _ in range(10):
        demands.kept_out("a", 0.0, LATE._replace(service=60.0))
    assert demands.excessive("a", SERVICES * 60 / 2)
    assert not demands.excessive("a", SERVICES * 60)


def test_each_is_promised_a_place_of_its_own_within_its_patience() -> None:
    demands = Demands(1)
    demands.kept_out("a", 0.0, LATE)  # was told when its turn would be in time
    assert demands.promised("a", 0.0) == 0.0
    promised = []
    for _ in range(12):
        demands.kept_out("a", 0.0, LATE._replace(turn=9.0))
        promised.append(demands.promised("a", 0.0))
    assert promised == [1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9]
    assert [demands.promised("a", now) for now in (4.0, 10.0)] == [5.0, 0.0]
    assert demands.promised("b", 0.0) == 0.0


def test_who_could_wait_behind_all_who_were_told_to_come_back_is_not_counted() -> None:
    soon = LATE._replace(turn=2.0, patience=9.0)
    demands = Demands(1)
    for number in range(100):
        demands.kept_out("a", float(number), soon)  # one comes when a place does
    assert not demands.excessive("a", 100.0)
    for _ in range(20):
        demands.kept_out("a", 100.0, soon)  # these are too many
    assert demands.excessive("a", 100.0)


def test_only_who_was_refused_is_remembered_and_only_so_many() -> None:
    demands = Demands(3)
    demands.let_in("a", 0.0)
    assert len(demands) == 0
    for who in "abcd":
        for _ in range(10):
            demands.kept_out(who, 0.0, LATE)
    assert (len(demands), [demands.excessive(who, 0.0) for who in "abcd"]) == (3, [False, True, True, True])
    demands.let_in("b", 10 * DECAY)
    assert (len(demands), demands.excessive("b", 10 * DECAY)) == (2, False)
