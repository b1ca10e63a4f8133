"""Give back what was claimed for a caller that is gone."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

from proxy.kernel.journal import Claim, Fenced
from proxy.kernel.store import StoreUnavailable


async def claim_or_give_back(
    claiming: Coroutine[Any, Any, Claim | None], release: Callable[[Claim], Awaitable[None]]
) -> Claim | None:
    """Return what `claiming` returns; where the caller is cancelled meanwhile, `release` what it comes to, and raise.

    The home may claim an entry after its caller was cancelled. Nobody would run it, and an attempt would be gone.
    """
    task = asyncio.ensure_future(claiming)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(StoreUnavailable, Fenced):
            if (claim := await task) is not None:
                await release(claim)
        raise
