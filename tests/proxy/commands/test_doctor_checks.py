"""proxy/commands/doctor_checks.py."""

import resource
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proxy.app import check
from proxy.commands import doctor_checks
from proxy.commands.doctor_checks import (
    check_certificate,
    check_certificates,
    check_clock,
    check_files,
    check_mode,
    check_secrets,
    check_slots,
    check_version,
)
from tests.support.certificates import Authority
from tests.support.options import make_backend
from tests.support.policy import load_text

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("most", "level", "said"),
    [
        (4096, "ok", "up to 4096"),
        (4095, "warn", "only 4095, for some 1856 connections"),
        (resource.RLIM_INFINITY, "ok", "any number"),
    ],
)
def test_open_files(most: int, level: str, said: str) -> None:
    found = check_files(most)
    assert found.level == level
    assert said in found.text


@pytest.mark.parametrize(
    ("version", "levels", "fixed"),
    [
        (None, ["warn"], []),
        ("0.17.1", ["ok"], []),
        ("0.17.1-rc0", ["bad"], ["0.17.1"]),
        ("0.17.0", ["bad"], ["0.17.1"]),
        ("0.14.2", ["bad", "bad"], ["0.14.3", "0.17.1"]),
        ("0.9.0", ["bad", "bad"], ["0.14.3", "0.17.1"]),
        ("0.1.28", ["bad"] * 6, ["0.1.29", "0.1.34", "0.1.46", "0.1.47", "0.14.3", "0.17.1"]),
        ("1.0.0", ["ok"], []),
        ("0.0.0", ["ok"], []),
        ("nightly", ["ok"], []),
    ],
)
def test_versions_and_their_holes(version: str | None, levels: list[str], fixed: list[str]) -> None:
    found = list(check_version("b1", version))
    assert [finding.level for finding in found] == levels
    assert [finding.text.partition("older than ")[2].partition(":")[0] for finding in found if fixed] == fixed


@pytest.mark.parametrize(
    ("slots", "each", "parallel", "queues", "found"),
    [
        (None, None, 4, False, ["note: no queue in the policy file"]),
        (
            None,
            None,
            "it runs on another machine",
            True,
            ["note: slots per model: learned; whether OLLAMA_NUM_PARALLEL"],
        ),
        (4, None, "it runs on another machine", False, ["note: slots per model: not bounded"]),
        (None, 2, "it runs on another machine", True, ["note: slots per model: 2; whether"]),
        (None, None, 4, True, ["ok: OLLAMA_NUM_PARALLEL is 4 for each model, which is learned"]),
        (None, 4, 4, True, ["ok: OLLAMA_NUM_PARALLEL is 4 for each model, as slots_per_model"]),
        (None, 3, 4, True, ["ok: slots_per_model: 3; 1 of the 4 of each model stay unused"]),
        (None, 5, 4, True, ["warn: slots_per_model: 5, but OLLAMA_NUM_PARALLEL is 4"]),
        (8, None, 4, True, ["ok: OLLAMA_NUM_PARALLEL is 4"]),
        (3, None, 4, True, ["ok: OLLAMA_NUM_PARALLEL is 4", "note: slots: 3 for all models together"]),
    ],
)
def test_slots(slots: int | None, each: int | None, parallel: int | str, queues: bool, found: list[str]) -> None:
    backend = make_backend("b1", "http://127.0.0.1:1", slots=slots, slots_per_model=each)
    said = [f"{one.level}: {one.text}" for one in check_slots("b1", backend, parallel, queues=queues)]
    assert len(said) == len(found)
    for line, expected in zip(said, found, strict=True):
        assert line.startswith(expected)


@pytest.mark.parametrize(
    ("date", "said"),
    [
        (None, None),
        ("nonsense", None),
        ("Sat, 31 Jan 2026 12:00:05 GMT", None),
        ("Sat, 31 Jan 2026 12:00:06 GMT", "its clock is 6 s ahead of this one"),
        ("Sat, 31 Jan 2026 11:59:00 GMT", "its clock is 60 s behind this one"),
        ("Sat, 31 Jan 2026 12:00:06", None),
    ],
)
def test_clocks(date: str | None, said: str | None) -> None:
    assert [finding.text for finding in check_clock("b1", date, NOW)] == ([said] if said else [])


@pytest.mark.parametrize(
    ("mode", "forbidden", "level", "said"),
    [
        (0o600, 0o077, "ok", "mode 600"),
        (0o640, 0o077, "warn", "chmod 600 "),
        (0o640, 0o027, "ok", "mode 640"),
        (0o664, 0o027, "warn", "chmod 640 "),
    ],
)
def test_modes(tmp_path: Path, mode: int, forbidden: int, level: str, said: str) -> None:
    file = tmp_path / "key"
    file.touch()
    file.chmod(mode)
    found = check_mode("key", file, forbidden)
    assert found.level == level
    assert said in found.text


def test_no_keys_yet_is_said_with_what_to_do(tmp_path: Path) -> None:
    text = "backends: [{name: a, url: 'http://127.0.0.1:1'}]\nmiddleware: [{auth: {keys: keys.yaml}}]\n"
    (finding,) = check_secrets(*check(load_text(text, folder=tmp_path)))
    assert finding.level == "bad"
    assert f"ollama-proxy keys new NAME --file {tmp_path / 'keys.yaml'}" in finding.text


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert check_mode("key", tmp_path / "none", 0o077).level == "bad"
    assert [finding.level for finding in check_certificate("c", tmp_path / "none", NOW)] == ["bad"]


@pytest.mark.parametrize(
    ("later", "level", "said"),
    [
        (timedelta(days=-1), "bad", "is valid only from"),
        (timedelta(), "warn", "in 0 days"),
        (timedelta(days=2), "bad", "ended on"),
        (timedelta(days=-40), "bad", "is valid only from"),
    ],
)
def test_when_a_certificate_ends(tmp_path: Path, later: timedelta, level: str, said: str) -> None:
    """The authority's certificates are good from an hour ago, for a day."""
    cert = Path(Authority(tmp_path).issue("localhost").cert)
    (found,) = check_certificate("c", cert, datetime.now(UTC) + later)
    assert found.level == level
    assert said in found.text


def test_a_certificate_that_is_good_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks, "EXPIRES_SOON", timedelta(hours=1))
    cert = Path(Authority(tmp_path).issue("localhost").cert)
    assert [finding.level for finding in check_certificate("c", cert, datetime.now(UTC))] == ["ok"]


def test_what_is_no_certificate(tmp_path: Path) -> None:
    file = tmp_path / "c.pem"
    file.write_text("nonsense")
    assert [finding.level for finding in check_certificate("c", file, NOW)] == ["bad"]


def test_what_a_policy_file_names_is_looked_at(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours, theirs = authority.issue("localhost"), authority.issue("b1")
    keys = tmp_path / "keys.yaml"
    keys.write_text("[]")
    for path, mode in ((ours.key, 0o644), (theirs.key, 0o600), (str(keys), 0o640)):
        Path(path).chmod(mode)
    plan, settings = check(
        load_text(
            f"tls: {{cert: {ours.cert}, key: {ours.key}}}\n"
            f"backends: [{{name: b1, url: 'https://b1', tls: {{ca: {authority.cert}, cert: {theirs.cert}, "
            f"key: {theirs.key}}}}}, {{name: b2, url: 'http://b2'}}]\n"
            f"middleware: [{{auth: {{keys: {keys}}}}}]\n"
        )
    )
    secrets = {finding.about: finding.level for finding in check_secrets(plan, settings)}
    assert secrets == {"TLS key": "warn", "TLS key for b1": "ok", "API keys": "ok"}
    certificates = {finding.about: finding.level for finding in check_certificates(settings)}
    assert certificates == dict.fromkeys(("TLS certificate", "CA for b1", "certificate for b1"), "warn")
