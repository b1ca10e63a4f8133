"""proxy/pool/awaited_answer.py."""

import asyncio
from contextlib import suppress

from proxy.pool.awaited_answer import AwaitedAnswer
from proxy.testing import make_exchange


async def test_a_wait_that_is_called_off_ends_at_once_and_says_why() -> None:
    awaited = AwaitedAnswer(make_exchange("POST", "/api/chat"), movable=True)
    awaited.call_off("too early")
    with suppress(TimeoutError):
        async with asyncio.timeout(None) as awaited.limit:
            awaited.call_off("no answer within 2 s")
            awaited.call_off("and again")
            await asyncio.Future()
    error = awaited.failure()
    assert error is not None
    assert (error.status, error.code, error.sent) == (502, "backend_down", True)
    assert error.message == "the backend went down before it answered"
    assert error.detail.endswith("no answer within 2 s")


async def test_a_wait_whose_own_time_is_up_was_not_called_off() -> None:
    awaited = AwaitedAnswer(make_exchange("POST", "/api/chat"), movable=True)
    with suppress(TimeoutError):
        async with asyncio.timeout(0) as awaited.limit:
            await asyncio.Future()
    awaited.call_off("too late")
    assert awaited.failure() is None
