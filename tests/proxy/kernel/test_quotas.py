"""proxy/kernel/quotas.py."""

from datetime import UTC, datetime

import pytest

from proxy.kernel.quotas import Level, Quota, Window
from proxy.kernel.units import Rate


def window(rate: str) -> Window:
    return Window(Rate.parse(rate))


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("rate", "now", "place", "ends"),
    [
        ("60/minute", "2026-05-31T23:59:59", "60s", None),
        ("5/250ms", "2026-05-31T23:59:59", "0.25s", None),
        ("60/24h", "2026-05-31T23:59:59", "86400s", None),
        ("60/day", "2026-05-31T23:59:59", "2026-05-31", "2026-06-01T00:00:00"),
        ("60/day", "2026-06-01T00:00:00", "2026-06-01", "2026-06-02T00:00:00"),
        ("60/month", "2026-05-31T23:59:59", "2026-05", "2026-06-01T00:00:00"),
        ("60/month", "2026-12-01T00:00:00", "2026-12", "2027-01-01T00:00:00"),
        ("60/month", "2028-02-29T12:00:00", "2028-02", "2028-03-01T00:00:00"),
    ],
)
def test_days_and_months_are_the_calendars(rate: str, now: str, place: str, ends: str | None) -> None:
    assert window(rate).place(at(now)) == (place, ends and at(ends))


def test_a_counter_is_the_same_whatever_its_amount() -> None:
    assert window("60/minute").key_for("q", "60s") == window("600/minute").key_for("q", "60s") == "q/60s"


@pytest.mark.parametrize(
    ("rate", "seconds"), [("1/minute", 60), ("1/250ms", 0.25), ("1/day", 86400), ("1/month", 31 * 86400)]
)
def test_a_hit_is_remembered_as_long_as_it_may_count(rate: str, seconds: float) -> None:
    assert window(rate).get_expiry() == seconds


@pytest.mark.parametrize(
    ("quota", "reserves"),
    [
        (Quota("q", requests=(window("1/day"),)), False),
        (Quota("q", tokens=(window("1/day"),)), True),
        (Quota("q", streams=1), True),
    ],
)
def test_only_tokens_and_streams_are_held(quota: Quota, reserves: bool) -> None:
    assert quota.reserves is reserves


def test_a_level_may_pass_its_amount() -> None:
    level = Level(0, "tokens", 10, 12, 3.0)
    assert (level.left, level.full) == (0, True)
    assert (Level(0, "tokens", 10, 9, 0.0).left, Level(0, "tokens", 10, 9, 0.0).full) == (1, False)


def test_what_was_empty_resets_one_window_after_it_is_charged() -> None:
    minute = window("10/minute")
    assert Level(0, "requests", 10, 0, 0.0, minute).charged(1) == Level(0, "requests", 10, 1, 60.0, minute)
    assert Level(0, "requests", 10, 1, 20.0, minute).charged(1) == Level(0, "requests", 10, 2, 20.0, minute)
    assert Level(0, "streams", 4, 0, 0.0).charged(1) == Level(0, "streams", 4, 1, 0.0)
