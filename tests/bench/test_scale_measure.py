"""bench/scale_measure.py."""

import shutil

import pytest

from bench.scale_measure import measure


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
async def test_each_command_is_measured() -> None:
    found = await measure(200)
    assert list(found) == [
        *("ping", "admit", "settle", "add", "bytes", "claim", "append", "beat", "read", "finish"),
    ]
    assert all(value >= 0 for value in found.values())
