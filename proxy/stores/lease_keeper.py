"""Renew the quota leases that this process holds in a shared store, and settle those that could not be settled."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

from proxy.kernel.quotas import Lease
from proxy.kernel.store import StoreUnavailable

BATCH: Final = 200
"""Number of leases that one call renews."""
DEBTS: Final = 10_000
"""Largest number of settlements owed to an unreachable store; beyond it the oldest are dropped."""


class LeaseKeeper:
    """Renews held leases and settles owed ones, in a task that runs while there are any.

    Args:
        renew: renews these leases in the store.
        settle: settles a lease with the tokens that it used; the flag says that an earlier try may have succeeded.
        every: seconds between two renewals.
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
        """Renew `lease` from now on."""
        self._held[lease.id] = lease
        self._start()

    def drop(self, lease: Lease) -> None:
        """Stop renewing `lease`."""
        self._held.pop(lease.id, None)

    def owe(self, lease: Lease, tokens: int) -> None:
        """Settle `lease` when the store is reachable again. The store may have settled it already, or not know it."""
        self._owed.append((lease, tokens))
        self._start()

    def wake(self) -> None:
        """Settle and renew at once, as the store is reachable again."""
        self._wake.set()

    async def aclose(self) -> None:
        """Settle what can be settled, and stop."""
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
                # Settled during the renewal, which may have reached the store second and revived the lease.
                if lease.id not in self._held:
                    await self._settle(lease, 0, True)

    def __repr__(self) -> str:
        return f"<LeaseKeeper {len(self._held)} leases held, {len(self._owed)} to settle>"
