"""proxy/stores/known_full.py."""

import pytest

from proxy.kernel.quotas import Level, Quota, Unit, Window
from proxy.stores.known_full import TRUSTED, KnownFull
from tests.support.stores import START, windows

QUOTA = Quota("q", windows("2/minute", "5/day"), windows("100/minute"))
MINUTE, DAY = QUOTA.requests


def full(window: Window, used: int, unit: Unit = "requests") -> Level:
    return Level(0, unit, window.amount, used, 0.0, window)


def known(
    full_ones: KnownFull, quota: Quota = QUOTA, *, now: float = 0.0, today: float = START
) -> list[tuple[str, float]]:
    levels = full_ones.levels([Quota("other"), quota], now=now, today=today)
    return [(level.window.period, level.resets_in) for level in levels if level.window is not None and level.quota == 1]


def test_it_knows_nothing_at_first() -> None:
    assert known(KnownFull()) == []


def test_a_full_window_is_known_until_it_has_room() -> None:
    full_ones = KnownFull()
    full_ones.note("q", full(MINUTE, 2), 4.0, now=10.0, today=START)
    assert known(full_ones, now=11.0) == [("minute", 3.0)]
    assert known(full_ones, now=14.1) == []


def test_it_is_not_believed_for_longer_than_a_while() -> None:
    full_ones = KnownFull()
    full_ones.note("q", full(DAY, 5), 3600.0, now=10.0, today=START)
    assert known(full_ones, now=10.0 + TRUSTED) == [("day", 3600.0 - TRUSTED)]
    assert known(full_ones, now=10.1 + TRUSTED) == []


@pytest.mark.parametrize(("amount", "refused"), [("1/minute", True), ("2/minute", True), ("3/minute", False)])
def test_who_may_have_more_is_not_refused_for_what_another_policy_found(amount: str, refused: bool) -> None:
    full_ones = KnownFull()
    full_ones.note("q", full(MINUTE, 2), 4.0, now=0.0, today=START)
    assert bool(known(full_ones, Quota("q", windows(amount)))) == refused


def test_each_counter_is_its_own() -> None:
    full_ones = KnownFull()
    full_ones.note("q", full(QUOTA.tokens[0], 100, "tokens"), 4.0, now=0.0, today=START)
    (level,) = full_ones.levels([QUOTA], now=0.0, today=START)
    assert (level.unit, level.used, level.amount) == ("tokens", 100, 100)
    assert not known(full_ones, Quota("p", QUOTA.requests, QUOTA.tokens))
    full_ones.note("q", full(DAY, 5), 4.0, now=0.0, today=START)
    assert len(full_ones) == 2
    assert [period for period, _ in known(full_ones, today=START + 86400)] == ["minute"]  # it is another day


def test_what_may_end_at_any_moment_is_not_remembered() -> None:
    full_ones = KnownFull()
    full_ones.note("q", Level(0, "streams", 1, 1, 0.0), 4.0, now=0.0, today=START)
    full_ones.note("q", full(QUOTA.tokens[0], 100, "tokens"), 0.0, now=0.0, today=START)
    assert len(full_ones) == 0
