"""proxy/pool/moving_averages.py."""

import pytest

from proxy.pool.moving_averages import MovingAverages, moved_average


def test_a_trend_follows() -> None:
    assert moved_average(None, 1.0) == 1.0
    assert moved_average(1.0, 2.0) == pytest.approx(1.2)
    trends = MovingAverages()
    assert trends.get("m") is None
    trends.note("m", 1.0, 0.0)
    trends.note("m", 2.0, 1.0)
    assert trends.get("m") == pytest.approx(1.2)


def test_who_got_no_value_for_longest_is_forgotten() -> None:
    trends = MovingAverages(2)
    for at, key in enumerate(("a", "b", "a", "c")):
        trends.note(key, 1.0, at)
    assert (trends.get("a"), trends.get("b"), trends.get("c")) == (1.0, None, 1.0)
    assert len(trends) == 2


def test_what_is_new_since() -> None:
    trends = MovingAverages()
    trends.note("a", 1.0, 0.0)
    trends.note("b", 2.0, 5.0)
    assert dict(trends.since(5.0)) == {"b": 2.0}
