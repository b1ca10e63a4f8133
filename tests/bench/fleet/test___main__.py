"""A short storm over a fleet: proxies and Redis are processes that are really killed and failed over."""

from pathlib import Path

import pytest

from bench.fleet.__main__ import show, storm
from bench.fleet.plan import Plan
from bench.fleet.schedule import Strike
from bench.fleet.verdict import judge
from tests.conftest import Need
from tests.support.redis import BINARY


@pytest.mark.timeout(90)
def test_what_three_proxies_promise_holds_over_a_kill_and_a_failover(tmp_path: Path, need: Need) -> None:
    need("redis-server", BINARY is not None)
    strikes = [Strike(1.5, "kill", 0.3, 1), Strike(4.5, "crash", 0.0, 0)]
    plan = Plan(seconds=10.0, seed=1, clients=40, slots=2, limit=10)
    told, _ = storm(plan, strikes, tmp_path, print)
    found = judge(told)
    show(found)
    assert [one.name for one in found if one.holds is False and not one.timing] == []
    assert sum(one.end == "whole" for one in told.seen) > 2 * plan.capacity
    assert [window.kind for window in told.windows] == ["kill", "crash"]
