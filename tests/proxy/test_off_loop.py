"""proxy/off_loop.py."""

import asyncio
import threading

import pytest

from proxy.off_loop import THREADS, off_loop


async def test_work_is_done_in_another_thread() -> None:
    assert await off_loop(divmod, 7, 2) == (3, 1)
    assert await off_loop(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await off_loop(divmod, 7, 0)


async def test_the_loop_goes_on_meanwhile() -> None:
    go_on = threading.Event()
    waiting = asyncio.create_task(off_loop(go_on.wait, 30))
    await asyncio.sleep(0)  # here the loop would stand still
    go_on.set()
    assert await waiting


async def test_whoever_is_cancelled_leaves_the_line() -> None:
    go_on, done = threading.Event(), threading.Event()
    busy = [asyncio.create_task(off_loop(go_on.wait, 30)) for _ in range(THREADS)]
    await asyncio.sleep(0)
    late = asyncio.create_task(off_loop(done.set))
    await asyncio.sleep(0)
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    go_on.set()
    await asyncio.gather(*busy)
    await off_loop(int)
    assert not done.is_set()
