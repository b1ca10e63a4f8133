"""proxy/commands/keys.py."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from proxy.cli import main

runner = CliRunner()


def run(*arguments: str, code: int = 0) -> tuple[str, str]:
    result = runner.invoke(main, ["keys", *arguments])
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "keys.yaml")


def test_a_key_is_shown_once_and_stored_as_a_hash(file: str) -> None:
    shown, said = run("new", "alice", "--file", file, "--tenant", "physics", "--policy", "research", "--expires", "90d")
    key = shown.strip()
    assert key.startswith("op_")
    assert "only now" in said
    stored = Path(file).read_text()
    assert key not in stored
    assert key.rpartition("_")[2] not in stored
    listed, _ = run("list", "--file", file)
    assert "alice" in listed
    assert "tenant=physics policy=research expires 20" in listed


def test_revoking(file: str) -> None:
    run("new", "alice", "--file", file)
    run("new", "bob", "--file", file)
    revoked, _ = run("revoke", "alice", "--file", file)
    assert revoked.startswith("revoked ")
    listed, _ = run("list", "--file", file)
    states = {line.split()[1]: line.split(maxsplit=4)[-1] for line in listed.splitlines()}
    assert states == {"alice": "revoked", "bob": "never expires"}
    _, said = run("revoke", "alice", "--file", file, code=1)
    assert "no usable key" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["new", "a\nb"], "controls how text is shown"),
    ],
)
def test_mistakes_are_told_in_one_line(file: str, arguments: list[str], said: str) -> None:
    _, error = run(*arguments, "--file", file, code=1)
    assert said in error
    assert not Path(file).exists()


def test_a_broken_file_is_said_to_be_so(file: str) -> None:
    Path(file).write_text("- name: [")
    for command in (["list"], ["new", "x"], ["revoke", "x"]):
        _, error = run(*command, "--file", file, code=1)
        assert file in error


@pytest.mark.parametrize(
    ("expires", "said"),
    [
        ("90", "expected a duration"),
        ("", "expected a duration"),
        ("-5d", "expected a duration"),
        ("0d", "dead at once"),
        ("0s", "dead at once"),
        ("999ms", "dead at once"),  # the file counts seconds
        ("2020-01-01", "dead at once"),
        ("2027-13-01", "a time is written 2026-12-31"),
        ("10000-01-01", "a time is written 2026-12-31"),
        ("99999999d", "after the year 9999"),
    ],
)
def test_an_end_that_makes_no_sense_makes_no_key(
    file: str, expires: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "4000")
    _, error = run("new", "alice", "--file", file, f"--expires={expires}", code=2)
    assert said in error
    assert "leave --expires out, or write never" in error
    assert not Path(file).exists()


@pytest.mark.parametrize(
    ("expires", "listed"),
    [
        ("never", "never expires"),
        ("9999-12-31", "expires 9999-12-31 23:59 UTC"),
        ("2100-01-31", "expires 2100-02-01 00:00 UTC"),
        ("2100-01-31T08:00:00Z", "expires 2100-01-31 08:00 UTC"),
        ("2s", "expire"),
    ],
)
def test_when_a_key_may_end(file: str, expires: str, listed: str) -> None:
    run("new", "alice", "--file", file, "--expires", expires)
    shown, _ = run("list", "--file", file)
    assert listed in shown


def test_an_end_of_more_digits_than_a_number_has(file: str) -> None:
    run("new", "alice", "--file", file, "--expires", "9" * 400 + "d", code=2)
    assert not Path(file).exists()
