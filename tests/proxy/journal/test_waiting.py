"""proxy/journal/waiting.py."""

import asyncio

from proxy.journal.waiting import Bells


async def test_a_bell_that_rang_before_the_wait_is_heard() -> None:
    bells = Bells()
    with bells.of("a") as bell, bells.work() as work:
        bells.ring(["a"])
        await asyncio.wait_for(bell.wait(60), 5)
        await asyncio.wait_for(work.wait(60), 5)


async def test_a_bell_rings_for_its_own_entry_alone_and_once() -> None:
    bells = Bells()
    with bells.of("a") as bell, bells.of("b") as other:
        waits, others = asyncio.create_task(bell.wait(60)), asyncio.create_task(other.wait(60))
        bells.ring(["a"])
        await waits
        assert not others.done()
        others.cancel()
        await bell.wait(0.001)  # ends by itself


async def test_nothing_is_kept_of_a_bell_that_nobody_holds() -> None:
    bells = Bells()
    with bells.of("a"):
        pass
    assert not bells._of
    bells.ring(["a"])
