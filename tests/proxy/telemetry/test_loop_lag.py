"""proxy/telemetry/loop_lag.py."""

import asyncio
import time

from proxy.telemetry.loop_lag import EVERY, Lag


async def test_a_loop_that_was_held_up_is_seen() -> None:
    seen: asyncio.Queue[float] = asyncio.Queue()
    lag = Lag(seen.put_nowait)
    lag.start()
    try:
        async with asyncio.timeout(10):
            assert await seen.get() >= 0.0
            time.sleep(EVERY + 0.1)  # noqa: ASYNC251 (that is the fault)
            assert await seen.get() >= 0.1
            await seen.get()  # and it goes on
    finally:
        lag.stop()


async def test_it_stops() -> None:
    seen: list[float] = []
    lag = Lag(seen.append)
    lag.stop()
    lag.start()
    lag.stop()
    await asyncio.sleep(0)
    assert not seen
