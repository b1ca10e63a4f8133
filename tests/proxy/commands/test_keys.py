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


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
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


POLICIES = "backends: [{name: a, url: nonsense}]\npolicies: {research: {}, operators: {}}\n"


@pytest.mark.parametrize("options", [[], ["--config", "proxy.yaml"], ["-c", "elsewhere/other.yaml"]])
def test_a_policy_that_the_policy_file_does_not_know_is_refused(file: str, tmp_path: Path, options: list[str]) -> None:
    written = tmp_path / (options[-1] if options else "proxy.yaml")
    written.parent.mkdir(exist_ok=True)
    written.write_text(POLICIES)
    _, said = run("new", "alice", "--file", file, "--policy", "reserch", *options, code=1)
    assert "has no policy 'reserch' (did you mean 'research'?)" in " ".join(said.split())
    _, said = run("new", "alice", "--file", file, "--policy", "x", *options, code=1)
    assert "it has operators, research" in " ".join(said.split())
    assert not Path(file).exists()
    run("new", "alice", "--file", file, "--policy", "research", *options)
    written.write_text("backends: []\n")
    _, said = run("new", "bob", "--file", file, "--policy", "research", *options, code=1)
    assert "it has none" in said


def test_a_policy_file_that_cannot_be_read_is_told(file: str, tmp_path: Path) -> None:
    _, said = run("new", "alice", "--file", file, "--policy", "research", "-c", "none.yaml", code=1)
    assert "none.yaml: cannot be read" in said
    (tmp_path / "proxy.yaml").write_text("policies: {research: [")
    _, said = run("new", "alice", "--file", file, "--policy", "research", code=1)
    assert "proxy.yaml:1:" in said
    run("new", "alice", "--file", file)


def test_without_a_policy_file_any_policy_goes(file: str) -> None:
    run("new", "alice", "--file", file, "--policy", "research")
