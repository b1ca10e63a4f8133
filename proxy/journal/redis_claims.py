"""Pick the entry whose turn it is, over all partitions of a journal in Redis."""

import asyncio
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

from proxy.journal.redis_partitions import Partitions
from proxy.journal.runs import LIVE_LOST, OWNER_LOST, TOO_OFTEN

COUNTED_FOR: Final = 0.25
"""Seconds for which the open requests of the other partitions are not counted anew."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a partition has to claim.

    Attributes:
        open: its open requests.
        ready_in: seconds until one may be claimed; None where none waits.
        lost: whether an owner is lost.
        rank: sorts partitions by who goes first; None where nobody does.
        virtual: the virtual time of the tenant that went last.
    """

    open: int
    ready_in: float | None
    lost: bool
    rank: tuple[int, float] | None
    virtual: float


class Picker:
    """Claims from the partition whose first tenant is behind all others.

    One partition decides by itself, in one call. Several are looked at first; then the one with the least virtual time
    is asked, and where another process was faster, the next. Their virtual times go together: a tenant that begins to
    wait in a partition where little happened begins where the furthest partition is.
    """

    def __init__(self, partitions: Partitions) -> None:
        self._partitions = partitions
        self._reached = 0.0
        self._looked = False
        self._others: dict[int, tuple[float, int]] = {}

    async def look(self, lost_after: float | None = None) -> list[Waiting]:
        """Return what each partition has to claim."""
        several = self._partitions.count > 1
        if several and not self._looked:
            await self._look(lost_after, "")  # learn how far they are
            self._looked = True
        return await self._look(lost_after, repr(self._reached) if several else "")

    async def pick(self, owner: str, attempts: int, lost_after: float) -> tuple[int, Any] | None:
        """Claim an entry; return its partition and what the script returned, None where nothing waits."""
        if self._partitions.count == 1:
            return await self._claim(0, owner, attempts, lost_after)
        while True:
            waiting = list(enumerate(await self.look(lost_after)))
            lost = [place for place, one in waiting if one.lost]
            ranked = sorted((one.rank, place) for place, one in waiting if one.rank is not None)
            later = [place for place, one in waiting if one.rank is None and one.ready_in == 0]
            order = [*lost, *(place for _, place in ranked), *later]
            for place in order[:2]:
                picked = await self._claim(place, owner, attempts, lost_after)
                if picked is not None:
                    return picked
            if len(order) <= 2:
                return None

    async def open_elsewhere(self, place: int, now: float) -> int:
        """Return the open requests of all partitions but one; a count may be a quarter of a second old."""
        if self._partitions.count == 1:
            return 0
        known = self._others.get(place)
        if known is None or now - known[0] > COUNTED_FOR:
            found = await self.look()
            total = sum(one.open for one in found)
            self._others = {other: (now, total - one.open) for other, one in enumerate(found)}
        return self._others[place][1]

    async def _look(self, lost_after: float | None, reached: str) -> list[Waiting]:
        asked = "" if lost_after is None else repr(float(lost_after))
        found = [_waiting(answer) for answer in await self._partitions.ask_all("look", asked, reached)]
        self._reached = max(self._reached, *(one.virtual for one in found))
        return found

    async def _claim(self, place: int, owner: str, attempts: int, lost_after: float) -> tuple[int, Any] | None:
        while True:
            answer = await self._partitions.ask(
                "claim", place, owner, attempts, repr(float(lost_after)), OWNER_LOST, LIVE_LOST, TOO_OFTEN, token_hex(8)
            )
            if answer is None:
                return None
            if answer != b"again":
                return place, answer
            await asyncio.sleep(0)


def _waiting(answer: Any) -> Waiting:
    number, ready, lost, priority, time, virtual = answer
    return Waiting(
        open=number,
        ready_in=ready / 1000 if ready >= 0 else None,
        lost=bool(lost),
        rank=(-int(priority), float(time)) if priority and time else None,
        virtual=float(virtual),
    )
