"""How long waiting takes, from what was measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.queue.pace import DECAY, Pace


def steady(every: float, tokens: float, count: int = 100, start: float = 1000.0) -> tuple[Pace, float]:
    """Return a pace of one request every so many seconds, and the time when the last one went."""
    pace = Pace()
    pace.began(start)
    for number in range(1, count + 1):
        pace.moved(start + number * every, tokens)
    return pace, start + count * every


def test_nothing_is_known_at_first() -> None:
    pace = Pace()
    assert pace.seconds(0.0, 100) is None
    pace.began(5.0)
    assert pace.seconds(6.0, 100) is None


@pytest.mark.parametrize(("every", "tokens"), [(0.01, 10), (1.0, 1000), (30.0, 5), (600.0, 5)])
def test_a_steady_pace(every: float, tokens: float) -> None:
    pace, now = steady(every, tokens)
    assert pace.seconds(now, 0) == pytest.approx(every)
    assert pace.seconds(now, 7 * tokens) == pytest.approx(8 * every)
    assert pace.seconds(now + every / 2, 7 * tokens) == pytest.approx(7.5 * every)


def test_it_follows_what_happens_now() -> None:
    pace, now = steady(0.1, 10)
    for _ in range(int(3 * DECAY)):
        now += 1.0
        pace.moved(now, 10)
    assert pace.seconds(now, 0) == pytest.approx(1.0, rel=0.5)


def test_what_moves_no_more_is_not_said_to_move() -> None:
    pace, now = steady(1.0, 10, count=5)
    assert pace.seconds(now, 100) == pytest.approx(11.0)
    later = pace.seconds(now + 50.0, 100)
    assert later is not None
    assert later > 50


def test_what_was_measured_long_ago_says_nothing() -> None:
    pace, now = steady(1.0, 10, count=3)
    pace.began(now + 10 * DECAY)
    assert pace.seconds(now + 10 * DECAY, 100) is None
    pace.moved(now + 10 * DECAY + 2.0, 10)
    assert pace.seconds(now + 10 * DECAY + 2.0, 10) == pytest.approx(4.0, rel=0.05)


def test_the_first_of_many_slots_says_nothing_of_the_others() -> None:
    pace = Pace()
    pace.began(0.0)
    for _ in range(7):
        pace.moved(10.0, 10)
    assert pace.seconds(10.0, 100, at_once=8) is None
    pace.moved(10.0, 10)
    assert pace.seconds(10.0, 100, at_once=8) == pytest.approx(13.75)
    pace.began(10.0 + 10 * DECAY)
    pace.moved(20.0 + 10 * DECAY, 10)
    assert pace.seconds(20.0 + 10 * DECAY, 100, at_once=8) is None


@given(
    st.lists(st.tuples(st.floats(0, 1000), st.integers(0, 10_000), st.booleans()), max_size=50), st.integers(0, 10**6)
)
def test_it_is_never_negative(steps: list[tuple[float, int, bool]], tokens: int) -> None:
    pace, now = Pace(), 0.0
    for passed, moved, began in steps:
        now += passed
        if began:
            pace.began(now)
        else:
            pace.moved(now, moved)
        seconds = pace.seconds(now + 1, tokens)
        assert seconds is None or seconds >= 0
