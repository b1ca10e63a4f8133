import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.auth import lifetimes
from middleware.auth.lifetimes import Lifetimes
from proxy.testing import ManualClock

NOW = 1_800_000_000.0


def test_a_clock_that_is_set_back_brings_nothing_back_to_life() -> None:
    clock = ManualClock(NOW)
    lives = Lifetimes(clock)
    assert lives.left("key", NOW + 60) == 60
    clock.advance(59)
    clock.set(NOW - 3600)
    assert lives.left("key", NOW + 60) == pytest.approx(1)
    clock.advance(1)
    assert lives.left("key", NOW + 60) <= 0


def test_a_clock_that_is_set_forward_ends_it_only_while_it_is_wrong() -> None:
    clock = ManualClock(NOW)
    lives = Lifetimes(clock)
    for seen_before in (False, True):
        clock.set(NOW + 10**8)
        assert lives.left("key", NOW + 60) < 0
        clock.set(NOW)
        assert lives.left("key", NOW + 60) == 60, seen_before


def test_another_end_is_another_life() -> None:
    clock = ManualClock(NOW)
    lives = Lifetimes(clock)
    assert lives.left("key", NOW + 60) == 60
    clock.advance(60)
    assert lives.left("key", NOW + 120) == 60


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifetimes, "REMEMBERED", 10)
    lives = Lifetimes(ManualClock(NOW))
    for number in range(100):
        lives.left(number, NOW + 60)
    assert len(lives) == 10


steps = st.lists(st.tuples(st.floats(-1e7, 1e7), st.floats(0, 1e5)), max_size=20)


@given(life=st.floats(1, 1e6), steps=steps)
def test_however_the_calendar_is_set_no_life_is_longer_than_it_was(
    life: float, steps: list[tuple[float, float]]
) -> None:
    clock = ManualClock(NOW)
    lives = Lifetimes(clock)
    assert lives.left("key", NOW + life) > 0
    passed = 0.0
    for step, seconds in steps:
        clock.set(clock.time() + step)
        clock.advance(seconds)
        passed += seconds
        if passed > life + 1e-3:
            assert lives.left("key", NOW + life) <= 1e-3
