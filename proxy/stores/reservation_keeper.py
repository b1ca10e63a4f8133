"""Renew the reservations that this process holds in a shared store, and settle those that are overdue."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

from proxy.kernel.quotas import Reservation
from proxy.kernel.store import StoreUnavailable

BATCH: Final = 200
"""Number of reservations that one call renews."""
DEBTS: Final = 10_000
"""Largest number of settlements owed to an unreachable store; beyond it the oldest are dropped."""


class ReservationKeeper:
    """Renews held reservations and settles owed ones, in a task that runs while there are any.

    Args:
        renew: renews these reservations in the store.
        settle: settles a reservation with the tokens that it used; the flag tells that an earlier try may have worked.
        every: seconds between two renewals.
    """

    def __init__(
        self,
        renew: Callable[[Sequence[Reservation]], Awaitable[None]],
        settle: Callable[[Reservation, int, bool], Awaitable[None]],
        *,
        every: float,
    ) -> None:
        self._renew = renew
        self._settle = settle
        self._every = every
        self._held: dict[str, Reservation] = {}
        self._owed: deque[tuple[Reservation, int]] = deque(maxlen=DEBTS)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def hold(self, reservation: Reservation) -> None:
        """Renew `reservation` from now on."""
        self._held[reservation.id] = reservation
        self._start()

    def drop(self, reservation: Reservation) -> None:
        """Stop renewing `reservation`."""
        self._held.pop(reservation.id, None)

    def owe(self, reservation: Reservation, tokens: int) -> None:
        """Settle `reservation` when the store is reachable again. The store may have done so already."""
        self._owed.append((reservation, tokens))
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
            reservation, tokens = self._owed[0]
            await self._settle(reservation, tokens, True)
            self._owed.popleft()

    async def _renew_all(self) -> None:
        reservations = iter(list(self._held.values()))
        while batch := list(islice(reservations, BATCH)):
            await self._renew(batch)
            for reservation in batch:
                # Settled during the renewal, which may have reached the store second and revived the reservation.
                if reservation.id not in self._held:
                    await self._settle(reservation, 0, True)

    def __repr__(self) -> str:
        return f"<ReservationKeeper {len(self._held)} reservations held, {len(self._owed)} to settle>"
