"""What the fuzzers stand on: cuts, kept inputs, shrinking, and the command itself with a reader that is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel.units import parse_size
from tests.fuzz import cuts
from tests.fuzz.keep import worth_keeping
from tests.fuzz.shrink import failure, shrunk

ROOT = Path(__file__).parents[2]


@given(st.binary(min_size=1, max_size=400))
def test_cut_bytes_are_all_there_and_cut_alike_each_time(data: bytes) -> None:
    for pieces in cuts.ways(data):
        assert b"".join(pieces) == data
        assert all(pieces)
    assert list(cuts.ways(data)) == list(cuts.ways(data))


def wrong(data: bytes) -> None:
    if b"a" in data and b"bc" in data:
        raise ValueError("both")


def test_a_finding_is_made_small() -> None:
    assert shrunk(wrong, b"xxxxaxxxxxxxxxbcxxxxxx") == b"abc"
    assert str(failure(wrong, b"abc")).startswith("ValueError: both")
    assert failure(wrong, b"ab") is None


def test_kept_is_what_reaches_new_code_and_does_not_fail() -> None:
    def check(data: bytes) -> None:
        try:
            parse_size(data.decode())
        except ValueError:
            return

    found = list(worth_keeping(check, [b"1KiB"], [b"2KiB", b"\xff", b"x", b"y"]))
    assert found == [b"x"]


def test_the_command_names_its_targets() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "nonsense"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no target is called nonsense" in done.stderr


@pytest.mark.skipif(not (ROOT / ".fuzz" / "lib" / "atheris").exists(), reason="scripts/fuzz installs atheris")
def test_the_command_runs_a_target_under_atheris() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "multipart_form", "--seconds", "1"],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "multipart_form" in done.stdout
    assert " 0 executions" not in done.stdout
