"""proxy/commands/diff.py."""

from pathlib import Path
from typing import Any

import pytest

from proxy.app import check
from proxy.commands.diff import ABSENT, callers_of, changes, document_of, effects, plugins, policies
from proxy.simulator import Ollama
from tests.support.cli import run, run_beside
from tests.support.policy import load_text
from tests.support.proxy import running

HOST = "backends: [{name: a, url: 'http://127.0.0.1:1'}]\n"


def document(text: str) -> dict[str, Any]:
    return document_of(*check(load_text(HOST + text)))


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({}, {}, []),
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("a", 1, 2)]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, [("a.c", 2, 3)]),
        ({"a": None}, {}, [("a", None, ABSENT)]),
        ({}, {"a": [1]}, [("a", ABSENT, [1])]),
        ({"a": [1, 2]}, {"a": [2, 1]}, [("a", [1, 2], [2, 1])]),
    ],
)
def test_changes(before: dict[str, Any], after: dict[str, Any], found: list[object]) -> None:
    assert list(changes(before, after)) == found
    assert [name for name, _, _ in changes(before, after, "p.")] == [
        f"p.{name}" for name, _, _ in changes(before, after)
    ]


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ("[logging, retry]", "[logging, retry]", []),
        ("[logging, retry]", "[retry, logging]", [("order", "logging → retry", "retry → logging")]),
        ("[logging]", "[logging, retry]", [("retry", ABSENT, "retry")]),
        ("[logging, retry]", "[logging]", [("retry", "retry", ABSENT)]),
        ("[queue: {wait: 1m}]", "[queue: {wait: 2m}]", [("queue.wait", "1m", "2m")]),
    ],
)
def test_plugins(before: str, after: str, found: list[object]) -> None:
    assert list(plugins(document(f"middleware: {before}\n"), document(f"middleware: {after}\n"))) == found


def test_policies_that_come_go_and_change() -> None:
    chain = "middleware: [{auth: {keys: keys.yaml}}, {rate_limit: {requests: 5/minute}}]\n"
    before = document(chain + "policies: {gone: {rate_limit: off}, kept: {rate_limit: {requests: 6/minute}}}\n")
    after = document(chain + "policies: {come: {rate_limit: off}, kept: {rate_limit: off}}\n")
    found = {name: (was, will_be) for name, was, will_be in policies(before, after)}
    assert found["come"] == (ABSENT, "come")
    assert found["gone"] == ("gone", ABSENT)
    assert found["kept: rate_limit"][0]["requests"] == "6/minute"
    assert found["kept: rate_limit"][1] == "off"
    assert found.keys() == {"come", "gone", "kept: rate_limit"}
    assert list(policies(before, before)) == []


def test_a_plugin_without_options_is_not_off() -> None:
    chain = "middleware: [{auth: {keys: keys.yaml}}, {use: 'tests.support.plugins:Identify', name: it}]\n"
    before, after = (document(f"{chain}policies: {{p: {{it: {state}}}}}\n") for state in ("{}", "off"))
    assert list(policies(before, before)) == []
    assert [(name, will_be) for name, _, will_be in policies(before, after)] == [("p: it", "off")]


def test_effects_are_told_together_for_those_of_one_policy() -> None:
    chain = (
        "middleware: [{{auth: {{keys: keys.yaml}}}}, {{rate_limit: {{requests: {}/minute}}}}]\n"
        "policies: {{p: {{rate_limit: {{requests: 7/minute}}}}}}\n"
    )
    before, after = document(chain.format(5)), document(chain.format(6))
    callers: dict[str, tuple[str | None, str | None]] = dict.fromkeys("edcba", (None, None))
    found = list(effects(before, after, {**callers, "x": ("p", "p"), "y": (None, "p")}))
    names = [name for name, _, _ in found]
    assert "a, b, c and 2 more: rate_limit.requests" in names
    assert not any(name.startswith("x") for name in names)
    assert ("y: policy", None, "p") in found
    assert [name for name in names if name.startswith("y: rate_limit")] == ["y: rate_limit.requests"]


def test_callers_are_those_of_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (
        "backends: [{{name: a, url: 'http://127.0.0.1:1'}}]\n"
        "middleware: [{{auth: {{keys: {}, anonymous: p}}}}]\n"
        "policies: {{p: {{}}, q: {{}}}}\n"
    )
    for file, keys in (("old", [("ann", "p"), ("bob", "p"), ("cat", None)]), ("new", [("ann", "q"), ("bob", "p")])):
        for name, policy in keys:
            run("keys", "new", name, "--file", str(tmp_path / file), *(["--policy", policy] if policy else []))
    old, new, none = (check(load_text(text.format(tmp_path / name)))[0] for name in ("old", "new", "none"))
    common = {"callers without a key": ("p", "p")}
    assert callers_of(old, new) == {**common, "ann": ("p", "q"), "bob": ("p", "p")}
    assert callers_of(None, new) == {**common, "ann": ("q", "q"), "bob": ("p", "p")}
    assert callers_of(none, new) == common


def test_two_files_are_compared(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(HOST + "middleware: [logging, {queue: {wait: 1m}}]\n")
    settings = "listen: 127.0.0.1:4711\nserver: {unix_mode: '0600'}\n"
    new.write_text(HOST + settings + "middleware: [logging, {queue: {wait: 2m}}, retry]\n")
    said = run("check", "-c", str(new), "--diff", str(old)).out
    assert "  ~ queue.wait: 1m → 2m\n" in said
    assert "  + retry: retry\n" in said
    assert "[127.0.0.1:4711]\n" in said
    assert "only after a restart: listen, server.unix_mode\n" in said
    said = run("check", "-c", str(new), "--diff", str(new)).out
    assert "nothing changes" in said
    assert "restart" not in said


async def test_a_file_is_compared_with_what_runs(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    async with Ollama() as sim, running(sim.url, log={"level": "info"}) as proxy:
        file.write_text(f"listen: 127.0.0.1:0\nbackends: [{{name: b1, url: '{sim.url}'}}]\nmiddleware: [logging]\n")
        said = (await run_beside("check", "-c", str(file), "--diff", "running", "--url", proxy.url)).out
        assert "  - retry: retry\n" in said
        assert "~" not in said
        assert "restart" not in said
