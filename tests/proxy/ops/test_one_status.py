"""proxy/ops/one_status.py."""

from typing import Any

from proxy.kernel.peers import Answer
from proxy.ops.document_types import Readiness
from proxy.ops.one_status import KEPT, one_readiness, one_status


def backend(**changes: Any) -> dict[str, Any]:
    base = {"name": "b1", "state": "up", "reason": "", "since": 0.0, "active": 1, "tokens_per_second": 1.5}
    return {**base, "last_error": None, "resident": [], **changes}


def request(id: str, started: str, seconds: float = 1.0) -> dict[str, Any]:
    return {"id": id, "started": started, "seconds": seconds}


def limit(used: int, whom: str = "identity=a") -> dict[str, Any]:
    return {"limit": "rate_limit", "whom": whom, "unit": "requests", "window": "minute", "used": used, "amount": 10}


def status(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "at": f"now {number}",
        "uptime": 1.0 * number,
        "ready": {"ready": True, "reason": "fine"},
        "config": {"generation": 1},
        "backends": [backend()],
        "queue": {"waiting": 0, "oldest": 0.0, "tenants": []},
        "requests": [],
        "limits": [],
        "bodies": {"held": 1, "total": 100, "callers": 1, "largest": 1},
        "log_lines_dropped": 1,
        "recent": [],
        "workers": [{"number": number, "pid": number, "uptime": 1.0, "requests": 0, "connections": 0}],
        **changes,
    }


def merge(*said: dict[str, Any] | None, mine: int = 1) -> Any:
    return one_status([Answer(number, document, mine=number == mine) for number, document in enumerate(said, 1)])


def test_of_one_process_it_is_as_it_is() -> None:
    own = status(0)
    assert one_status([Answer(0, own, mine=True)]) is own


def test_what_each_has_is_summed_and_the_rest_is_the_own() -> None:
    queues = [
        {"waiting": 3, "oldest": 1.0, "tenants": [{"tenant": "a", "waiting": 2}, {"tenant": "b", "waiting": 1}]},
        {"waiting": 2, "oldest": 4.0, "tenants": [{"tenant": "b", "waiting": 2}]},
    ]
    found = merge(status(1, queue=queues[0]), status(2, queue=queues[1]), mine=2)
    assert (found["at"], found["uptime"], found["log_lines_dropped"]) == ("now 2", 2.0, 2)
    assert found["bodies"] == {"held": 2, "total": 100, "callers": 2, "largest": 1}
    assert found["queue"] == {
        "waiting": 5,
        "oldest": 4.0,
        "tenants": [{"tenant": "b", "waiting": 3}, {"tenant": "a", "waiting": 2}],
    }


def test_a_backend_is_as_the_worker_sees_it_that_sees_worst() -> None:
    small = {"name": "m", "loading": True, "active": 1}
    one = status(1, backends=[backend(resident=[small])])
    ill = backend(state="down", reason="refused", since=3.0, last_error="no", resident=[{**small, "loading": False}])
    (found,) = merge(one, status(2, backends=[ill, backend(name="gone")]))["backends"]
    assert (found["state"], found["reason"], found["since"], found["last_error"]) == ("down", "refused", 3.0, "no")
    assert (found["active"], found["tokens_per_second"]) == (2, 3.0)
    assert found["resident"] == [{"name": "m", "loading": False, "active": 2}]


def test_requests_are_in_order_and_recent_ones_bounded() -> None:
    one = status(1, requests=[request("b", "2026-01-01T00:00:02.000Z")])
    many = [request(f"r{n}", "2026-01-01T00:00:00.000Z", n) for n in range(KEPT, 0, -1)]
    two = status(2, requests=[request("a", "2026-01-01T00:00:01.000Z")], recent=many)
    late = request("late", "2026-01-01T00:00:01.000Z", KEPT)
    found = merge({**one, "recent": [late]}, two)
    assert [each["id"] for each in found["requests"]] == ["a", "b"]
    assert len(found["recent"]) == KEPT
    assert [each["id"] for each in found["recent"][:2]] == ["late", f"r{KEPT}"]
    assert merge({**one, "recent": None}, {**two, "recent": None})["recent"] is None


def test_a_limit_is_one_counter_for_all() -> None:
    found = merge(status(1, limits=[limit(3)]), status(2, limits=[limit(4), limit(9, "identity=b")]))
    assert [each["used"] for each in found["limits"]] == [9, 4]


def test_one_that_does_not_answer_is_shown_by_its_number() -> None:
    found = merge(status(1), None, status(3))
    assert [(worker["number"], worker["pid"]) for worker in found["workers"]] == [(1, 1), (2, None), (3, 3)]


def test_it_is_ready_where_any_of_them_is() -> None:
    ill = {"ready": False, "reason": "no backend can be used"}
    assert merge(status(1, ready=ill), status(2))["ready"]["ready"]
    assert merge(status(1, ready=ill), status(2, ready=ill))["ready"] == ill
    own = Readiness(False, "no backend can be used")
    fine = {"ready": True, "reason": "fine"}
    assert one_readiness([Answer(1, ill, mine=True), Answer(2, fine)], own) == Readiness(True, "fine")
    assert one_readiness([Answer(1, ill, mine=True), Answer(2, None), Answer(3, ill)], own) is own
