"""The leases that this process holds in a shared store: keeps them alive, and settles late what had to wait."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

from proxy.kernel.quotas import Lease
from proxy.kernel.store import StoreUnavailable

BATCH: Final = 200
"""Leases renewed by one call."""
DEBTS: Final = 10_000
"""What is owed to a store that stays away is forgotten beyond so many, oldest first."""


class Keeper:
    """Runs a task as long as anything is held or owed.

    Args:
        renew: shows the store that these leases are alive.
        settle: ends a lease with the tokens it used; again, where an attempt before may have succeeded.
        every: seconds between two signs of life.
    """

    def __init__(
        self,
        renew: Callable[[Sequence[Lease]], Awaitable[None]],
        settle: Callable[[Lease, int, bool], Awaitable[None]],
        *,
        every: float,
    ) -> None:
        self._renew = renew
        self._settle = settle
        self._every = every
        self._held: dict[str, Lease] = {}
        self._owed: deque[tuple[Lease, int]] = deque(maxlen=DEBTS)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def hold(self, lease: Lease) -> None:
        """Keep `lease` alive from now on."""
        self._held[lease.id] = lease
        self._start()

    def drop(self, lease: Lease) -> None:
        """Keep it no longer."""
        self._held.pop(lease.id, None)

    def owe(self, lease: Lease, tokens: int) -> None:
        """Settle `lease` when the store is back. Whether it is known there, and was settled already, nobody knows."""
        self._owed.append((lease, tokens))
        self._start()

    def wake(self) -> None:
        """The store is back: pay and show signs of life at once."""
        self._wake.set()

    async def aclose(self) -> None:
        """Pay what can be paid, and stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        with suppress(StoreUnavailable):
            await self._pay()

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._held or self._owed:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._wake.wait()
            self._wake.clear()
            with suppress(StoreUnavailable):
                await self._pay()
                await self._renew_all()

    async def _pay(self) -> None:
        while self._owed:
            lease, tokens = self._owed[0]
            await self._settle(lease, tokens, True)
            self._owed.popleft()

    async def _renew_all(self) -> None:
        leases = iter(list(self._held.values()))
        while batch := list(islice(leases, BATCH)):
            await self._renew(batch)
            for lease in batch:
                # Settled while the renewal was on its way, which may have come second and brought it back to life.
                if lease.id not in self._held:
                    await self._settle(lease, 0, True)

    def __repr__(self) -> str:
        return f"<Keeper {len(self._held)} leases held, {len(self._owed)} to settle>"
