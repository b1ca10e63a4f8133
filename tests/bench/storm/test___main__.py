"""A short storm, with processes that are really killed and frozen."""

import pytest

from bench.storm.__main__ import main


@pytest.mark.timing(reason="hosts, proxy and clients are processes that share the machine with whatever else runs")
@pytest.mark.timeout(60)
def test_a_short_storm(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--seconds", "14", "--clients", "8"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert "0 false successes" in said
    assert "attempts per request" in said
