"""What a storm does to the hosts."""

from collections import Counter

import pytest

from bench.storm.schedule import BOOT, HOSTS, NUMBERS, schedule


@pytest.mark.parametrize("seed", range(5))
def test_a_hundred_seconds_have_the_numbers_of_each_kind_and_a_well_host_at_any_time(seed: int) -> None:
    strikes = schedule(seed, 100.0)
    found = Counter(strike.kind for strike in strikes)
    assert found == NUMBERS
    assert strikes == sorted(strikes, key=lambda strike: strike.at)
    assert all(strike.at + strike.lasts < 100.0 for strike in strikes)
    for strike in strikes:
        sick = {other.host for other in strikes if other.at <= strike.at < other.at + other.lasts + BOOT}
        assert len(sick) < HOSTS


def test_a_seed_makes_the_same_storm_again_and_another_one_another() -> None:
    assert schedule(1, 50.0) == schedule(1, 50.0) != schedule(2, 50.0)


def test_a_short_one_has_each_kind() -> None:
    assert {strike.kind for strike in schedule(3, 15.0)} == set(NUMBERS)
