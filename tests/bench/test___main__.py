"""The command line, once with everything small."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

import bench.__main__ as program
from bench.plan import FIRST, SHORT, STREAM
from bench.targets import TargetFailed


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for profile in (STREAM, FIRST, SHORT):
        tiny = replace(profile, connections=2, per_second=20, seconds=0.2, ramp=0.05, settle=0.1)
        monkeypatch.setattr(program, profile.name.upper(), tiny)
    monkeypatch.setattr(program, "_shorter", lambda profile: profile)
    monkeypatch.setattr(program, "has_nginx", lambda: False)


@pytest.mark.timeout(180)  # it starts a dozen processes
@pytest.mark.usefixtures("small")
def test_compare_prints_a_table_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "out.json"
    assert program.main(["--only", "compare", "--rounds", "1", "--json", str(file)]) == 0
    out, err = capsys.readouterr()
    assert "| CPU per streamed chunk, µs " in out
    assert "nginx is not installed" in err
    found = orjson.loads(file.read_bytes())
    assert {run["target"] for run in found["runs"]} == {"direct", "bare", "full"}
    assert all(run["errors"] == 0 for run in found["runs"])


def test_what_credentials_cost_is_a_part_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "measure", lambda: {"API key": [5.0, 6.0, 9.0]})
    file = tmp_path / "out.json"
    assert program.main(["--only", "credentials", "--json", str(file)]) == 0
    assert "| API key                    |                   6 |        5 to 9 |" in capsys.readouterr().out
    assert orjson.loads(file.read_bytes())["credentials"] == {"API key": [5.0, 6.0, 9.0]}


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["--only", "nothing"])
    assert "invalid choice" in capsys.readouterr().err


def test_a_target_that_fails_ends_it_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise TargetFailed("nginx does not answer: no")

    monkeypatch.setattr(program, "variants", fail)
    assert program.main(["--only", "compare", "--json", str(tmp_path / "out.json")]) == 1
    assert "nginx does not answer: no" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
