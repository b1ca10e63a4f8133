"""bench/bursts/verdict.py."""

from datetime import UTC, datetime
from typing import Any

from bench.bursts.verdict import fairness, judge


def entry(state: str, ended_at: float | None) -> dict[str, Any]:
    text = None if ended_at is None else datetime.fromtimestamp(ended_at, UTC).isoformat()
    return {"state": state, "ended_at": text}


def test_one_tenant_after_the_other_is_not_fair() -> None:
    assert fairness([1, 2, 3, 4], [0, 0, 1, 1]) == 0.5


def test_taking_turns_is_fair() -> None:
    assert fairness([1, 3, 2, 4], [0, 0, 1, 1]) > 0.89
    assert fairness([float(at) for at in range(200)], [at % 2 for at in range(200)]) > 0.99


def test_what_is_lost_wrong_or_generated_twice_does_not_hold() -> None:
    whole = [entry("completed", float(at)) for at in range(100)]
    tenants = [at % 2 for at in range(100)]
    assert judge(whole, tenants, 0, 100).holds(again=0)
    assert judge(whole, tenants, 0, 102).holds(again=2)
    assert not judge(whole, tenants, 0, 103).holds(again=2)
    assert not judge(whole, tenants, 1, 100).holds(again=0)
    assert not judge([*whole[1:], {}], tenants, 0, 100).holds(again=0)
    assert "1 lost" in str(judge([*whole[1:], {}], tenants, 0, 100))
