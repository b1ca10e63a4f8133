"""proxy/pool/health.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pool.health import Health, Rules
from tests.support.options import health_rules

RULES = health_rules(down_after=3, up_after=2, eject_after=4, eject_for=30.0, eject_longest=100.0, ramp=10.0)


def after(*steps: str, rules: Rules = RULES) -> Health:
    """p: good probe, P: failed probe, r: good request, R: failed request (the fourth ejects), a number: time passes."""
    health, now = Health(rules), 0.0
    for step in steps:
        match step:
            case "p":
                health.probe_succeeded(now)
            case "P":
                health.probe_failed(now, "refused")
            case "r":
                health.try_it(now)
                health.request_succeeded(now, now)
            case "R":
                trial = health.try_it(now)
                health.request_failed(now, "reset")
                if trial or (health.state == "suspect" and health.failures >= rules.eject_after):
                    health.eject(now, "reset")
            case _:
                now += float(step)
    return health


@pytest.mark.parametrize(
    ("steps", "state", "reason"),
    [
        ([], "up", "not asked yet"),
        (["p"], "up", "answers"),
        (["P"], "suspect", "refused"),
        (["P", "p"], "up", "answers"),
        (["P", "P", "P"], "down", "refused"),
        (["P", "P", "p", "P"], "suspect", "refused"),
        (["P", "P", "P", "p"], "down", "refused"),
        (["P", "P", "P", "p", "p"], "up", "answers again"),
        (["P", "P", "P", "r"], "up", "serves again"),
        (["R"], "suspect", "reset"),
        (["R", "p"], "suspect", "reset"),
        (["R", "1", "p"], "up", "answers"),
        (["R", "R", "1", "p"], "suspect", "reset"),
        (["R", "R", "2", "p"], "up", "answers"),
        (["R", "1", "p", "R", "1", "p"], "suspect", "reset"),
        (["R", "1", "p", "R", "2", "p"], "up", "answers"),
        (["R", "r"], "up", "serves again"),
        (["R"] * 4, "ejected", "reset"),
        (["R", "R", "R", "r", "R"], "suspect", "reset"),
        (["R", "1", "p", "R", "2", "p", "R", "4", "p", "R"], "ejected", "reset"),
        (["R"] * 4 + ["p", "p", "p"], "ejected", "reset"),
        (["R"] * 4 + ["31", "r"], "up", "serves again"),
        (["R"] * 4 + ["P", "P", "P"], "down", "refused"),
    ],
)
def test_states(steps: list[str], state: str, reason: str) -> None:
    health = after(*steps)
    assert (health.state, health.reason) == (state, reason)


def test_an_ejected_backend_gets_exactly_one_request_when_its_time_is_up() -> None:
    health = after(*["R"] * 4)
    assert not health.usable(29.9)
    assert not health.try_it(29.9)
    assert health.usable(30.0)
    assert health.try_it(30.0)
    assert not health.usable(30.0)
    assert not health.try_it(30.0)
    health.end_trial()
    assert health.usable(30.0)
    assert health.try_it(30.0)
    health.request_succeeded(31.0, 30.0)
    assert health.usable(31.0)


def test_what_began_before_an_ejection_says_nothing_about_it() -> None:
    health = after("10", *["R"] * 4)
    assert health.try_it(40.0)
    health.request_succeeded(41.0, 9.0)
    assert health.state == "ejected"
    health.request_failed(41.0, "reset")
    assert (health.ejected_until, health.ejections) == (40.0, 1)
    assert not health.usable(41.0)  # the one on trial is still out
    health.request_succeeded(42.0, 40.0)
    assert health.shown == "up"


def test_every_ejection_in_a_row_is_twice_as_long_up_to_a_bound() -> None:
    health = after(*["R"] * 4)
    assert health.ejected_until == 30.0
    for now, until in [(30.0, 90.0), (90.0, 190.0), (190.0, 290.0)]:
        assert health.try_it(now)
        health.eject(now, "reset")
        assert (health.state, health.ejected_until) == ("ejected", until)
    for _ in range(2000):
        health.eject(300.0, "reset")
    assert health.ejected_until == 400.0


def test_a_suspect_is_under_suspicion_no_longer_than_it_would_be_ejected() -> None:
    health = Health(health_rules(eject_after=10_000, eject_for=30.0))
    for _ in range(5000):
        health.request_failed(0.0, "reset")
    health.probe_succeeded(29.9)
    assert health.state == "suspect"
    health.probe_succeeded(30.0)
    assert health.shown == "up"


def test_who_comes_back_gets_its_share_step_by_step() -> None:
    health = after("P", "P", "P", "100", "p", "p")
    assert health.share(100.0) == pytest.approx(0.1)
    assert health.share(105.0) == pytest.approx(0.55)
    assert health.share(110.0) == 1.0
    assert after("p").share(0.0) == 1.0


def test_draining_is_the_operators_word() -> None:
    health = after("p")
    health.draining = True
    assert not health.usable(0.0)
    assert health.shown == "draining"
    health.draining = False
    assert health.usable(0.0)
    assert "up: answers" in repr(health)


@given(st.lists(st.sampled_from(["p", "P", "r", "R", "1", "40"]), max_size=60))
def test_a_backend_that_serves_is_up_whatever_came_before(steps: list[str]) -> None:
    assert after(*steps, "r").state == "up"


@given(st.lists(st.sampled_from(["p", "P", "r", "R", "1", "40"]), max_size=60))
def test_its_share_is_never_none_and_its_reason_never_empty(steps: list[str]) -> None:
    health = after(*steps)
    assert 0 < health.share(1e6) <= 1
    assert health.reason


def test_a_failure_that_was_the_requests_is_taken_back() -> None:
    health = after("R", "R")
    health.absolve(1.0, 0.0)
    assert (health.state, health.failures) == ("suspect", 1)
    health.absolve(1.0, 0.0)
    assert (health.state, health.failures) == ("up", 0)
    for steps in (["R"] * 4, ["R", "P", "P", "P"], ["P", "R"]):
        before = after(*steps)
        state = before.state
        before.absolve(1.0, 0.0)
        assert before.state == state


def test_what_a_success_wiped_out_is_not_taken_back_again() -> None:
    health = after("R", "1", "r", "1", "R")
    health.absolve(3.0, 0.0)
    assert (health.state, health.failures) == ("suspect", 1)
    health.absolve(3.0, 2.0)
    assert (health.state, health.failures) == ("up", 0)


def test_it_says_when_it_is_back() -> None:
    health, back = Health(RULES), []
    health.came_back = lambda: back.append(health.state)
    for _ in range(3):
        health.probe_failed(0.0, "refused")
    health.probe_succeeded(1.0)
    assert not back
    health.probe_succeeded(2.0)
    health.eject(3.0, "reset")
    health.request_succeeded(40.0, 39.0)
    assert back == ["up", "up"]


@pytest.mark.parametrize(
    ("steps", "left", "recovered", "unanswered"),
    [
        (["1", "p"], None, None, False),
        (["1", "P"], None, None, True),
        (["p", "1", "P"], 1.0, None, True),
        (["p", "1", "P", "1", "p"], 1.0, 2.0, False),
        (["p", "1", "P", "1", "P", "1", "P", "1", "p", "1", "p"], 1.0, 5.0, False),
        (["p", "1", "R", "1", "R", "1", "R", "1", "R", "30", "r"], 1.0, 34.0, False),
        (["p", "1", "R", "5", "p"], 1.0, None, False),
    ],
    ids=[
        "always up",
        "never there",
        "a probe failed",
        "the next one is good",
        "down and back",
        "ejected and back",
        "never away",
    ],
)
def test_when_it_went_away_and_came_back(
    steps: list[str], left: float | None, recovered: float | None, unanswered: bool
) -> None:
    health, never = after(*steps), float("-inf")
    assert health.left_at == (never if left is None else left)
    assert health.recovered_at == (never if recovered is None else recovered)
    assert health.unanswered is unanswered
