"""How a storm over a fleet is judged."""

from typing import Any

import pytest

from bench.fleet.calls import Seen
from bench.fleet.clients import Deferred
from bench.fleet.plan import METERED, Plan
from bench.fleet.strikes import Window
from bench.fleet.verdict import Told, at_rest, bytes_exact, errors, excesses, fault_of, judge, kept, rate_limit, resumed
from bench.fleet.watch import Look

SAID = '{"message":{"content":"a"},"done":false}\n{"done":true}\n'


def answer(who: str, began: float = 0.0, ended: float = 1.0, said: str = SAID, *, whole: bool = True) -> dict[str, Any]:
    return {"who": who, "began": began, "ended": ended, "whole": whole, "said": said}


def seen(who: str, end: str = "whole", got: str = SAID, tenant: str = "tenant-0", **more: Any) -> Seen:
    times = {"sent": 0.0, "ended": 1.0, **more}
    return Seen(who, tenant, "/api/chat", more.pop("way", "plain"), end=end, got=got, **times)


def told(**more: Any) -> Told:
    given: dict[str, Any] = {
        "plan": Plan(seconds=10.0, seed=1, clients=10, slots=1, limit=2),
        "hosts": [],
        "seen": [],
        "deferred": [],
        "windows": [],
        "looks": [],
        "rest": Look(0.0, {"a": 3.0}),
        "began": 0.0,
        "ended": 10.0,
        "proxies": 1,
        **more,
    }
    return Told(**given)


def host(*answers: dict[str, Any], levels: Any = ((0.0, 0),), excess: Any = ()) -> dict[str, Any]:
    return {"levels": levels, "excess": excess, "answers": list(answers)}


def test_an_excess_has_its_moment_its_strike_and_who_was_running() -> None:
    levels = [(0.0, 0), (1.0, 1), (2.0, 2), (2.5, 3), (3.0, 1), (4.0, 0)]
    one = host(levels=levels, excess=[(2.0, ["x", "y"]), (2.5, ["x", "y", "z"])])
    (found,) = excesses(told(hosts=[host(), one], windows=[Window("kill", 1.5, 3.0)], seen=[seen("x", proxy=2)]))
    assert (found.host, found.began, found.ended, found.most, found.strikes) == (1, 2.0, 3.0, 3, "kill")
    assert found.who == ["x (proxy 2)", "y (?)"]


@pytest.mark.parametrize(
    ("read", "good"),
    [
        (seen("x"), True),
        (seen("x", got=SAID[1:]), False),
        (seen("x", got=SAID + SAID), False),
        (seen("x", end="broken", got=SAID[:20]), True),
        (seen("x", end="broken", got=SAID[:41] + '{"error":"the backend broke off"}\n'), True),
        (seen("x", end="broken", got=SAID[:41] + '{"er'), True),
        (seen("x", end="broken", got=SAID[:20] + SAID[:20]), False),
        (seen("x", end="broken", got=SAID[5:20]), False),
        (seen("x", end="false"), False),
        (seen("x", end="refused", got="anything"), True),
    ],
)
def test_bytes_are_those_of_one_answer_of_the_host_or_their_beginning(read: Seen, good: bool) -> None:
    other = answer("x", said='{"message":{"content":"b"},"done":false}\n{"done":true}\n')
    assert (fault_of(read, [other, answer("x")]) == "") is good
    assert bytes_exact(told(hosts=[host(other, answer("x"))], seen=[read])).holds is good


def test_each_accepted_request_has_to_be_over_with_an_answer_or_a_reason() -> None:
    def later(state: str, error: str = "null", **read: Any) -> Deferred:
        return Deferred("x", state, error, seen("x", **read), None)

    assert all(
        line.holds is not False for line in kept(told(deferred=[later("completed"), later("failed", '{"a":1}')]))
    )
    for bad in (later("lost"), later("running"), later("failed"), later("expired"), later("completed", end="broken")):
        assert any(line.holds is False for line in kept(told(deferred=[later("completed"), bad])))


def test_the_limit_is_counted_over_what_was_let_through_in_any_minute() -> None:
    def calls(*times: float, end: str = "whole") -> list[Seen]:
        return [seen(f"{at}", end, tenant=METERED, sent=at) for at in times]

    assert rate_limit(told(seen=calls(0.0, 30.0, 60.5))).holds
    assert not rate_limit(told(seen=calls(0.0, 30.0, 58.0))).holds
    assert rate_limit(told(seen=[*calls(0.0, 30.0), *calls(40.0, end="refused")])).holds
    lost = calls(40.0, end="lost")
    assert not rate_limit(told(seen=[*calls(0.0, 30.0), *lost], hosts=[host(answer(lost[0].who))])).holds


def test_what_breaks_near_a_strike_is_told_and_elsewhere_it_does_not_hold() -> None:
    strike = [Window("kill", 5.0, 8.0)]
    near, far = seen("x", "lost", "", sent=6.0, ended=6.5), seen("y", "lost", "", sent=1.0, ended=2.0)
    assert errors(told(seen=[near], windows=strike))[0].holds
    assert not errors(told(seen=[near, far], windows=strike))[0].holds
    limited = seen("z", "refused", "", code="429 rate_limit_exceeded")
    assert errors(told(seen=[limited], windows=strike))[0].holds
    unfinished = seen("x", "broken", SAID[:20], breaks=1, sent=6.0, ended=6.5)
    assert resumed(told(seen=[unfinished], windows=strike)).holds
    assert not resumed(told(seen=[unfinished])).holds


def test_nothing_may_be_left() -> None:
    assert at_rest(told(hosts=[host()])).holds
    assert not at_rest(told(hosts=[host(levels=[(0.0, 0), (1.0, 1)])])).holds
    assert not at_rest(told(rest=Look(0.0, {"a": 3.0}, {"a": 1}))).holds
    assert not at_rest(told(rest=Look(0.0, {"a": -3.0}))).holds


def test_use_and_fairness_count_while_somebody_waits() -> None:
    tenants = ("tenant-0", "tenant-1", "tenant-2", "tenant-3")
    waiting = [seen(f"{tenant} {n}", tenant=tenant, sent=0.0, ended=8.0) for tenant in tenants for n in range(2)]
    runs = [answer(f"{tenant} 0", 1.0 + n, 2.0 + n) for n, tenant in enumerate(tenants)]
    levels = [(0.0, 0), (0.4, 1), (8.0, 0)]
    lines = {line.name: line for line in judge(told(hosts=[host(*runs, levels=levels)], seen=waiting))}
    assert lines["slots in use while somebody waited, calm"].found == "31.7% of 8 s"  # of three hosts one is busy
    assert lines["Jain index over tenants that all wait"].found == "1.000 in 8 s (1, 1, 1, 1)"
    assert lines["slots in use while somebody waited, calm"].holds is False
