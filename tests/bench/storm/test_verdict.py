"""Which requests of a storm count, and as what."""

import pytest

from bench.storm.verdict import Seen, is_well, judge

SICK = [[(10.0, 20.0)], [(15.0, 30.0)], [(40.0, 50.0)]]


@pytest.mark.parametrize(
    ("began", "ended", "well"), [(0.0, 9.0, True), (0.0, 11.0, False), (19.0, 21.0, False), (20.5, 40.0, True)]
)
def test_a_host_is_well_or_not(began: float, ended: float, well: bool) -> None:
    assert is_well(SICK[0], began, ended) is well


def test_what_becomes_of_the_requests() -> None:
    seen = [
        Seen("/api/chat", 0.0, 1.0, "whole", ""),
        Seen("/api/chat", 12.0, 16.0, "failed", "502"),  # the third host was well
        Seen("/api/chat", 12.0, 45.0, "failed", "502"),  # none was all the while
        Seen("/api/chat", 16.0, 17.0, "cut", "Broken"),
        Seen("/api/chat", 12.0, 45.0, "false", "b''"),
    ]
    found = judge(seen, SICK)
    assert (found.requests, found.counted, found.whole, found.failed, found.cut, found.false) == (5, 3, 1, 1, 1, 1)
    assert found.share == 0.5
    assert "0.5000 succeeded" in str(found)
    assert "1 x /api/chat after 4 s: 502" in str(found)
