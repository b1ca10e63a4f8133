"""What a storm does to proxies and Redis."""

from collections import Counter
from itertools import pairwise

import pytest

from bench.fleet.schedule import OF, QUIET, WELL, Faults, schedule


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("faults", ["proxies", "redis", "all"])
def test_each_strike_comes_when_the_one_before_may_be_over(seed: int, faults: Faults) -> None:
    strikes = schedule(seed, 180.0, faults)
    assert all(before.at + before.lasts + WELL < after.at for before, after in pairwise(strikes))
    assert strikes[0].at >= QUIET
    assert strikes[-1].at + WELL < 180.0
    assert {strike.kind for strike in strikes} == set(OF[faults])


def test_kinds_take_turns() -> None:
    kinds = [strike.kind for strike in schedule(1, 3600.0, "redis")]
    for turn in range(0, len(kinds) - 5, 5):
        assert Counter(kinds[turn : turn + 5]) == Counter(OF["redis"])


def test_a_seed_makes_the_same_storm_again_and_another_one_another() -> None:
    assert schedule(1, 90.0, "all") == schedule(1, 90.0, "all") != schedule(2, 90.0, "all")
    assert schedule(1, 90.0, "none") == []
