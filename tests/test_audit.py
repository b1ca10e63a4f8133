"""``scripts/audit`` says which advisories apply, and skips with a reason where none can be had."""

import importlib.machinery
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "audit"


def load() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("audit", str(SCRIPT))
    spec = importlib.util.spec_from_loader("audit", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


PACKAGES: list[dict[str, object]] = [
    {"name": "a", "version": "1.0", "vulns": []},
    {"name": "b", "version": "2.0", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.1"]}]},
]


@pytest.mark.parametrize(
    ("ignored", "applies"),
    [
        ({}, True),
        ({"PYSEC-1": {"reason": "not called", "until": "2026-12-31"}}, False),
        ({"CVE-1": {"reason": "not called", "until": "2026-12-01"}}, False),
        ({"CVE-1": {"reason": "not called", "until": "2026-11-30"}}, True),
        ({"CVE-2": {"reason": "another", "until": "2026-12-31"}}, True),
    ],
)
def test_an_advisory_applies_until_it_is_ignored(ignored: dict[str, dict[str, str]], applies: bool) -> None:
    found = load().advisories(PACKAGES, ignored, "2026-12-01")
    assert found == (["b 2.0: PYSEC-1, mended in 2.1"] if applies else [])


def main_with(monkeypatch: pytest.MonkeyPatch, packages: list[dict[str, object]] | Exception) -> ModuleType:
    audit = load()

    def ask() -> list[dict[str, object]]:
        if isinstance(packages, Exception):
            raise packages
        return packages

    monkeypatch.setattr(audit, "_install", lambda: None)
    monkeypatch.setattr(audit, "_ask", ask)
    return audit


def test_an_index_without_advisories_skips(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    main_with(monkeypatch, [{"name": "a", "skip_reason": "not found there"}]).main()
    assert capsys.readouterr().out == "scripts/audit: skipped: not found there\n"


def test_an_index_out_of_reach_skips(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    main_with(monkeypatch, OSError("out of reach")).main()
    assert capsys.readouterr().out == "scripts/audit: skipped: out of reach\n"


def test_an_advisory_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main_with(monkeypatch, PACKAGES).main()
    assert ended.value.code
    assert "b 2.0: PYSEC-1" in capsys.readouterr().out
