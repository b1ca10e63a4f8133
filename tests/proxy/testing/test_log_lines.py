"""proxy/testing/log_lines.py: lines are kept, and a test can wait for one."""

import asyncio

import pytest

from proxy.testing import LogLines


async def test_a_test_waits_for_a_line() -> None:
    lines = LogLines()
    waiting = asyncio.create_task(lines.request(2))
    for status in (200, 403):
        lines.write(b'{"event": "store_back"}\n')
        lines.write(b'{"event": "request", "status": %d}\n' % status)
        await asyncio.sleep(0)
    assert (await waiting)["status"] == 403
    assert len(lines.events) == 4
    assert [line["status"] for line in lines.requests] == [200, 403]


async def test_a_line_that_does_not_come_is_a_failure_that_shows_the_others() -> None:
    lines = LogLines()
    lines.write(b'{"event": "store_back"}\n')
    with pytest.raises(AssertionError, match="store_back"):
        await lines.wait_for(lambda lines: bool(lines.requests), timeout=0)
