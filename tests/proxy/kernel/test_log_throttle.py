"""proxy/kernel/log_throttle.py."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel.log_throttle import LOGGED_PER_SECOND, Seldom


@given(st.lists(st.floats(0, 0.7), max_size=60))
def test_few_pass_in_a_second_and_none_is_lost_count_of(pauses: list[float]) -> None:
    now = 100.0
    seldom = Seldom(lambda: now)
    passed: list[int] = []
    left_out = 0
    for pause in pauses:
        now += pause
        found = seldom.left_out()
        if found is None:
            left_out += 1
            continue
        assert found == left_out
        left_out = 0
        passed.append(int(now))
    assert all(passed.count(second) <= LOGGED_PER_SECOND for second in passed)


def test_all_that_come_at_once_but_a_few_are_left_out() -> None:
    now = 7.0
    seldom = Seldom(lambda: now)
    assert [seldom.left_out() for _ in range(LOGGED_PER_SECOND + 3)] == [0] * LOGGED_PER_SECOND + [None] * 3
    now = 8.0
    assert [seldom.left_out(), seldom.left_out()] == [3, 0]
