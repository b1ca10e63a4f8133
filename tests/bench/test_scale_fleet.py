"""bench/scale_fleet.py: what holds in the simulation whatever is simulated."""

from dataclasses import replace

import pytest

from bench.scale_fleet import Costs, Fleet, Plan

COSTS: Costs = {"admit": 5e-5, "settle": 3e-5, "take": 5e-5, "release": 5e-5, "renew": 1e-5, "renew_each": 1e-6}
SMALL = Plan("small", proxies=5, hosts=10, slots=2, tenants=25, seconds=1200.0)


def run(plan: Plan) -> Fleet:
    fleet = Fleet(plan, COSTS)
    fleet.run()
    return fleet


@pytest.mark.parametrize("plan", [
    replace(SMALL, load=0.5),
    replace(SMALL, load=3.0),
    replace(SMALL, load=3.0, linger=0.0),
    replace(SMALL, load=0.9, dying=0.4),
    replace(SMALL, load=2.0, greedy=0.5, nodes=3),
])  # fmt: skip
def test_slots_are_conserved(plan: Plan) -> None:
    fleet = run(plan)
    assert fleet.most_leased <= plan.slots
    assert min(fleet.leased) >= 0
    assert sum(fleet.leased) + len(fleet._free) == plan.capacity
    assert sum(fleet.leased) == len(fleet._leases)
    assert fleet.slot_use <= 1
    assert fleet.finished > 0


def test_no_slot_idles_while_somebody_waits() -> None:
    fleet = run(replace(SMALL, load=3.0))
    assert fleet.slot_use > 0.99
    assert fleet.refused > 0


def test_those_who_ask_alike_get_alike() -> None:
    assert run(replace(SMALL, load=3.0)).fairness >= 0.95
    assert run(replace(SMALL, load=0.8)).fairness >= 0.95


def test_who_asks_for_all_takes_nothing_from_the_others() -> None:
    fleet = run(replace(SMALL, load=1.6, greedy=0.5))
    assert fleet.fairness >= 0.95
    assert fleet.served[0] > 2 * max(fleet.served[1:])  # it gets what is left over


def test_a_request_waits_for_two_round_trips_at_most_and_permits_save_some() -> None:
    with_permits, without = run(replace(SMALL, load=0.8, work=1.0)), run(replace(SMALL, load=0.8, work=1.0, linger=0.0))
    assert without.trips == 2 * len(without.waits)
    assert with_permits.trips < without.trips
    assert with_permits.commands < without.commands


def test_slots_of_proxies_that_died_come_back() -> None:
    fleet = run(replace(SMALL, load=2.0, dying=0.4))
    assert {proxy for proxy, _ in fleet._leases.values()} <= {2, 3, 4}
    assert fleet.slot_use > 0.9


def test_the_seed_decides() -> None:
    first, again, other = run(SMALL), run(SMALL), run(replace(SMALL, seed=2))
    assert first.waits == again.waits
    assert first.waits != other.waits


def test_a_node_with_too_much_to_do_is_what_bounds_the_fleet() -> None:
    slow = Fleet(replace(SMALL, load=0.9, work=0.1, seconds=20.0), {**COSTS, "take": 1e-2})
    slow.run()
    assert slow.load[0] == pytest.approx(1.0, abs=0.01)
    assert slow.slot_use < 0.8
