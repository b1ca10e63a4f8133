"""proxy/kernel/refusal_log.py."""

import pytest
from structlog.testing import capture_logs

from proxy.kernel import error_codes as codes
from proxy.kernel.errors import Refused
from proxy.kernel.log_throttle import LOGGED_PER_SECOND
from proxy.kernel.refusal_log import Refusals

REFUSED = Refused(403, "no", code=codes.CROSS_ORIGIN)


def test_refusals_are_counted_and_a_few_of_them_logged_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("proxy.kernel.log_throttle.time.monotonic", lambda: now)
    refusals = Refusals()
    with capture_logs() as logs:
        for _ in range(LOGGED_PER_SECOND + 7):
            refusals.note(REFUSED, "192.0.2.1")
        now = 101.0
        refusals.note(REFUSED, "unix")
        refusals.note(REFUSED, "unix")
    assert len(logs) == LOGGED_PER_SECOND + 2
    assert (logs[0]["status"], logs[0]["reason"], logs[0]["client_address"]) == (403, "cross_origin", "192.0.2.1")
    assert (logs[-2]["left_out"], logs[-2]["client_address"]) == (7, "unix")
    assert logs[-1]["left_out"] == 0
    assert refusals.counted == {"cross_origin": LOGGED_PER_SECOND + 9}
