"""proxy/pool/candidates.py."""

from math import inf

from proxy.pool.backend import Backend
from proxy.pool.candidates import snapshot
from proxy.pool.request_needs import NOTHING, Need
from proxy.pool.residency import Resident
from proxy.pool.selection import Candidate
from tests.support.options import health_rules, make_backend

RUNS = Need(model="m", runs=True)


def backend(name: str = "a", **more: object) -> Backend:
    return make_backend(name, "http://127.0.0.1:1", rules=health_rules(down_after=1), **more)


def test_what_selection_is_told() -> None:
    busy, down, drained = backend("busy", slots=1, weight=2.0), backend("down"), backend("drained")
    busy.models = {"m": {}}
    busy.residency.saw({"m": Resident()})
    busy.residency.began("m", (), 1.0)
    busy.active = 1
    busy.slowness = {"m": 2.0}
    down.models = {}
    down.health.probe_failed(0.0, "refused")
    drained.health.draining = True
    one, other = snapshot([busy, down, drained], RUNS, "down", 1.0)
    assert one == Candidate(
        name="busy",
        load=0.5,
        step=0.5,
        free=False,
        usable=True,
        alive=True,
        suspect=False,
        has_model=True,
        residency="loaded",
        affinity=False,
        slowness=2.0,
        loss=-inf,
    )
    assert (other.name, other.usable, other.alive, other.has_model) == ("down", False, False, False)
    assert other.residency == "cold"
    assert other.affinity


def test_what_runs_nothing_asks_for_no_slot_and_no_memory() -> None:
    full = backend(slots=1)
    full.active = 1
    (one,) = snapshot([full], NOTHING, None, 0.0)
    assert (one.free, one.has_model, one.loss) == (True, True, -inf)


def full(name: str, *models: str) -> Backend:
    """A backend that holds the last of `models` and threw out the others."""
    one = backend(name)
    for at, model in enumerate(models, 1):
        one.residency.began(model, (), at)
        one.residency.answered(model)
        one.residency.ended(model, at)
        one.residency.saw({model: Resident()})
    return one


def test_what_a_load_costs() -> None:
    one, two, three, roomy = (
        full("one", "x", "y"),
        full("two", "x", "z"),
        full("three", "v", "w", "z"),
        backend("roomy"),
    )
    candidates = snapshot([one, two, three, roomy], RUNS, None, 5.0)
    assert [candidate.loss for candidate in candidates] == [2.0, 0.0, 0.0, -inf]  # z is there twice
    two.residency.began("z", (), 6.0)
    assert [candidate.loss for candidate in snapshot([one, two], RUNS, None, 7.0)] == [2.0, inf]
    warm = full("warm", "x", "m")
    assert snapshot([warm, one], RUNS, None, 5.0)[0].loss == -inf
