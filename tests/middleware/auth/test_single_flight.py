import asyncio
import gc

import pytest

from middleware.auth.single_flight import SingleFlight


async def test_all_who_ask_meanwhile_get_the_one_answer() -> None:
    flight: SingleFlight[str, int] = SingleFlight()
    gate = asyncio.Event()
    runs = 0

    async def work() -> int:
        nonlocal runs
        runs += 1
        await gate.wait()
        return runs

    waiting = [asyncio.ensure_future(flight.start("key", work)) for _ in range(10)]
    assert flight.running("key")
    assert not flight.running("another")
    gate.set()
    assert await asyncio.gather(*waiting) == [1] * 10
    assert not flight.running("key")
    assert await flight.start("key", work) == 2


async def test_one_who_goes_away_takes_nothing_from_the_others() -> None:
    flight: SingleFlight[str, str] = SingleFlight()
    gate = asyncio.Event()

    async def work() -> str:
        await gate.wait()
        return "answer"

    async def ask() -> str:
        return await flight.start("key", work)

    gone, stays = asyncio.create_task(ask()), asyncio.create_task(ask())
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    gate.set()
    assert await stays == "answer"


async def test_an_error_reaches_all_who_wait_and_is_not_kept() -> None:
    flight: SingleFlight[str, str] = SingleFlight()

    async def fail() -> str:
        raise LookupError

    async def succeed() -> str:
        return "answer"

    results = await asyncio.gather(flight.start("key", fail), flight.start("key", fail), return_exceptions=True)
    assert [type(result) for result in results] == [LookupError, LookupError]
    assert await flight.start("key", succeed) == "answer"


async def test_an_error_that_nobody_waits_for_is_not_an_unseen_one() -> None:
    flight: SingleFlight[str, str] = SingleFlight()
    unseen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unseen.append(context))
    landed = asyncio.Event()

    async def fail() -> str:
        asyncio.get_running_loop().call_soon(landed.set)
        raise LookupError

    asyncio.ensure_future(flight.start("key", fail)).cancel()
    await landed.wait()
    assert not flight.running("key")
    gc.collect()
    assert unseen == []
