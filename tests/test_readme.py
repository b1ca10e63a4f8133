"""README.md: what it shows works, and where it points there is something."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
POLICY = README.split("```yaml\n")[1].split("```")[0]


def checked(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GPU2_TOKEN", "x")
    add_key(folder / "keys.yaml", new_key("alice", now=0.0)[1])
    (folder / "proxy.yaml").write_text(text, "utf-8")
    result = CliRunner().invoke(main, ["check"])
    return result.exit_code, result.output


def test_the_policy_file_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = checked(POLICY, tmp_path, monkeypatch)
    assert code == 0, output
    assert "logging → auth → rate_limit(guests, operators off) → retry → dispatch" in output


def test_the_mistake_is_told_in_these_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = checked(POLICY.replace("{requests: 60", "{requsts: 60"), tmp_path, monkeypatch)
    assert code == 1
    assert output in README


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)", README))
def test_links_lead_somewhere(target: str) -> None:
    assert target.startswith("https://") or (ROOT / target).exists()


@pytest.mark.parametrize("command", sorted(set(re.findall(r"\bscripts/\w+", README))))
def test_scripts_are_there(command: str) -> None:
    assert (ROOT / command).stat().st_mode & 0o100


@pytest.mark.parametrize("line", sorted(set(re.findall(r"\bollama-proxy ((?:keys )?\w+)", README))))
def test_commands_are_there(line: str) -> None:
    assert CliRunner().invoke(main, [*line.split(), "--help"]).exit_code == 0


def test_the_picture_is_a_rectangle() -> None:
    frame = [row for row in README.split("```")[1].splitlines() if {"│", "┌", "└"} & {*row}]
    assert len({row.rindex(end) for row in frame for end in ("│", "┐", "┘") if end in row}) == 1
    assert len({min(row.index(end) for end in ("│", "┌", "└") if end in row) for row in frame}) == 1
