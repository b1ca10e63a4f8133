"""Removes what has expired, also where nobody asks for anything."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from proxy.kernel.journal import JournalFull
from proxy.kernel.store import StoreUnavailable

EVERY: Final = 10.0
"""Seconds between two looks."""


class Sweeper:
    """Calls `sweep` now and then.

    Args:
        sweep: removes the entries that have expired.
    """

    def __init__(self, sweep: Callable[[], Awaitable[None]]) -> None:
        self._sweep = sweep
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def once(self) -> None:
        """Sweep now; a home that is full, or cannot be written, can still be looked at."""
        with suppress(JournalFull, StoreUnavailable):
            await self._sweep()

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            await self.once()
