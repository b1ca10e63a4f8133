"""proxy/journal/claiming.py; test_sqlite.py and test_redis.py try it with homes that claim late."""

import asyncio

import pytest

from proxy.journal.claiming import claim_or_give_back
from proxy.kernel.journal import Claim
from proxy.kernel.store import StoreUnavailable


@pytest.mark.parametrize("fails", [False, True])
async def test_who_is_cancelled_is_so_when_the_home_has_answered(fails: bool) -> None:
    answered, released = asyncio.Event(), list[Claim]()

    async def claiming() -> Claim | None:
        await answered.wait()
        if fails:
            raise StoreUnavailable("away")
        return None

    async def release(claim: Claim) -> None:
        released.append(claim)

    task = asyncio.create_task(claim_or_give_back(claiming(), release))
    await asyncio.sleep(0)
    task.cancel()
    answered.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not released
