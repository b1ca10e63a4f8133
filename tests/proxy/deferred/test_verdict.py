"""What becomes of an entry, by how its run ended."""

from typing import Any

import pytest

from proxy.deferred.verdict import LATER, LONGEST, SOON, STOPPED, Again, Ended, Over, judge

LOST = {"outcome": "upstream_failed", "status": 502, "code": "upstream_connection_lost", "message": "lost"}
BROKEN = {"outcome": "upstream_truncated", "status": 200, "code": "upstream_truncated", "recorded": 9, "message": "cut"}
FULL = {"outcome": "refused", "status": 503, "code": "queue_full"}


@pytest.mark.parametrize(
    ("ended", "verdict"),
    [
        ({"outcome": "completed", "status": 200, "complete": True, "recorded": 9}, Over("completed")),
        ({"outcome": "completed", "status": 200, "complete": True}, Over("completed")),
        (
            {"outcome": "completed", "status": 404, "complete": True, "code": "upstream_error", "message": "no model"},
            Over("failed", "upstream_error: no model"),
        ),
        (
            {"outcome": "upstream_failed", "status": 200, "complete": True, "recorded": 9, "code": "upstream_error"},
            Over("failed", "upstream_error: the run ended without an answer"),
        ),
        ({"outcome": "refused", "status": 401, "code": "revoked", "message": "no"}, Over("failed", "revoked: no")),
        ({"outcome": "upstream_failed", "status": 501, "code": "upstream_error"}, Over("failed")),
        ({"outcome": "refused", "status": 502, "code": "suspected_poison"}, Over("failed")),
        (BROKEN, Over("failed", "upstream_truncated: cut")),
        (
            {"outcome": "cancelled", "status": 499, "code": "cancelled", "message": "x"},
            Over("cancelled", "cancelled: x"),
        ),
        (FULL, Again(LATER, counts=False)),
        ({**FULL, "retry_after": 7.0}, Again(7.0, counts=False)),
        ({**FULL, "retry_after": 3600.0}, Again(LONGEST, counts=False)),
        ({**FULL, "attempts": 9, "most_attempts": 1}, Again(LATER, counts=False)),
        ({"outcome": "refused", "status": 429, "code": "rate_limit_exceeded"}, Again(LATER, counts=False)),
        ({"outcome": "upstream_failed", "status": 502, "code": "upstream_unreachable"}, Again(LATER, counts=False)),
        ({**LOST, "most_attempts": 3}, Again(SOON, counts=True)),
        ({**LOST, "attempts": 2, "most_attempts": 3}, Again(2 * SOON, counts=True)),
        ({**LOST, "attempts": 3, "most_attempts": 3}, Over("dead", "upstream_connection_lost: lost")),
        ({"outcome": "client_gone", "status": None, "stopped": True}, Again(0.0, counts=False)),
        ({"outcome": "client_gone", "status": 200, "stopped": True, "recorded": 9}, Over("failed", STOPPED)),
        ({"outcome": None, "status": None, "most_attempts": 2}, Again(SOON, counts=True)),
    ],
)
def test_the_verdict(ended: dict[str, Any], verdict: Over | Again) -> None:
    found = judge(Ended(**ended))
    if isinstance(verdict, Over) and verdict.error is None and verdict.state != "completed":
        assert isinstance(found, Over)
        assert found.state == verdict.state
    else:
        assert found == verdict
