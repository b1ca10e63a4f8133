"""proxy/kernel/usable_cpus.py."""

import os
from pathlib import Path

import pytest

from proxy.kernel.usable_cpus import usable_cpus

HERE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [
        ("max 100000", HERE),
        ("50000 100000", 1),
        ("100000 100000", 1),
        ("150000 100000", min(HERE, 2)),
        ("99900000 100000", HERE),
        ("", HERE),
        ("much", HERE),
    ],
)
def test_a_quota_bounds_the_cpus(tmp_path: Path, quota: str, cpus: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert usable_cpus(tmp_path / "cpu.max") == cpus


def test_without_a_quota_there_are_those_that_the_process_may_run_on(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path / "none") == HERE
