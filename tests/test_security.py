"""SECURITY.md names tests that exist."""

import re
from pathlib import Path

from proxy.app import check
from tests.support.policy import load_text

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "SECURITY.md").read_text("utf-8")
NAMED = re.findall(r"`([a-z_/]+\.py)(?:::(test_\w+))?`", TEXT)


def test_every_promise_names_a_test() -> None:
    rows = [line for line in TEXT.partition("### What is not promised")[0].splitlines() if line.startswith("| ")]
    promises = [line for line in rows if "| what is promised |" not in line]
    assert len(promises) > 20
    assert [line for line in promises if ".py" not in line] == []


def test_every_test_that_is_named_is_there() -> None:
    assert len(NAMED) > 20
    for path, name in NAMED:
        assert (TESTS / path).exists(), path
        assert not name or f"def {name}(" in (TESTS / path).read_text("utf-8"), f"{path}::{name}"


def test_the_lines_that_close_holes_are_taken() -> None:
    table = TEXT.partition("## Known holes of Ollama")[2]
    lines = set(re.findall(r"`((?:auth|access|parameters): \{[^`]*\})`", table))
    assert len(lines) > 4
    for line in lines:
        chain = "" if line.startswith("auth") else "  - auth: {anonymous: p}\n"
        backends = "backends: [{name: a, url: 'http://127.0.0.1:1'}]\n"
        check(load_text(f"{backends}middleware:\n{chain}  - {line}\npolicies: {{p: {{}}}}\n"))
