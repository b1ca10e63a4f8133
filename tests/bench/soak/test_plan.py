"""How a soak divides its time."""

from bench.soak.plan import QUIET, Plan


def test_the_parts_make_up_the_whole() -> None:
    plan = Plan(minutes=20)
    assert plan.warm_up + plan.main + 2 * QUIET == 20 * 60
    assert Plan(minutes=0.1).main == 20.0  # too short to find anything in less
