"""Bound the questions to a provider that are in progress, and share them fairly among client addresses.

Every question in progress holds a place. If no place is free, the question waits in a line; each address has its own
line in each rank (`Rank`). Lines of a better rank go before those of a worse one, but after `PATIENCE` questions the
worse rank gets a turn. Lines of the same rank take turns. So the first question of a line waits for one question of
each other line of its rank, however long those lines are.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import Final

from middleware.auth.caller import NotLetIn, too_many

AT_ONCE: Final = 16
"""Maximum number of questions in progress at a provider."""
STRANGERS_AT_ONCE: Final = 12
"""Maximum for tokens that were never seen, so that a question about a known token finds a place at once."""
LINE_AT_ONCE: Final = 8
"""Maximum for one address, so that another address finds a place at once."""
LINE_LENGTH: Final = 256
"""Maximum number of questions that wait in the line of one address."""
WAITING: Final = 1024
"""Maximum number of questions that wait in all; beyond it, those of the worst rank are refused."""
PATIENCE: Final = 10
"""Number of questions of better ranks that go before one of a worse rank."""


class Rank(IntEnum):
    """The order of questions: the lowest rank goes first."""

    KNOWN = 0
    """The token was good before, and is asked about again."""
    TRUSTED = 1
    """The address has sent good tokens, and no wrong ones lately."""
    NEW = 2
    """The address is unknown, or has sent both good and wrong tokens."""
    DOUBTED = 3
    """The address has sent wrong tokens lately, and no good one."""


_Line = deque["asyncio.Future[None]"]


class Places:
    """The places at one provider, and the lines of questions that wait for one."""

    def __init__(self) -> None:
        self._running: Counter[Hashable] = Counter()
        self._strangers = 0
        self._all = 0
        self._waiting = 0
        self._lines: dict[Rank, OrderedDict[Hashable, _Line]] = {rank: OrderedDict() for rank in Rank}
        self._passed: dict[Rank, int] = dict.fromkeys(Rank, 0)

    @asynccontextmanager
    async def place(self, address: Hashable, rank: Rank) -> AsyncIterator[None]:
        """Wait for a place, and hold it; the caller bounds the time. Raises Refused (429) if too many wait."""
        await self._take(address, rank)
        try:
            yield
        finally:
            self._end(address, rank)
            self._go_on()

    def rank(self, address: Hashable, rank: Rank) -> None:
        """Move the waiting questions of `address` about new tokens to its line of `rank`, in their order."""
        moved = [turn for other in Rank if other is not Rank.KNOWN for turn in self._lines[other].pop(address, ())]
        if moved:
            self._lines[rank][address] = deque(moved)

    async def _take(self, address: Hashable, rank: Rank) -> None:
        line = self._lines[rank].get(address)
        if line is None and self._has_room(address, rank):
            self._begin(address, rank)
            return
        if line is not None and len(line) >= LINE_LENGTH:
            raise crowded()
        if self._waiting >= WAITING:
            self._push_out(rank)
        turn = asyncio.get_running_loop().create_future()
        self._lines[rank].setdefault(address, deque()).append(turn)
        self._waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:  # its turn came just now
                self._end(address, rank)
                self._go_on()
            else:
                self._leave(address, turn)
            raise

    def _has_room(self, address: Hashable, rank: Rank) -> bool:
        if self._all >= AT_ONCE:
            return False
        return rank is Rank.KNOWN or (self._strangers < STRANGERS_AT_ONCE and self._running[address] < LINE_AT_ONCE)

    def _begin(self, address: Hashable, rank: Rank) -> None:
        self._all += 1
        if rank is not Rank.KNOWN:
            self._strangers += 1
            self._running[address] += 1

    def _end(self, address: Hashable, rank: Rank) -> None:
        self._all -= 1
        if rank is not Rank.KNOWN:
            self._strangers -= 1
            self._running[address] -= 1
            if not self._running[address]:
                del self._running[address]

    def _go_on(self) -> None:
        """Give free places to the next questions."""
        while self._all < AT_ONCE and self._waiting:
            found = self._next()
            if found is None:
                return
            turn, address, rank = found
            if not turn.done():  # a turn is done if its waiting task was cancelled but has not run since
                self._begin(address, rank)
                turn.set_result(None)

    def _next(self) -> "tuple[asyncio.Future[None], Hashable, Rank] | None":
        """Remove the next question from its line and return it; None if none can go."""
        impatient = [rank for rank in Rank if self._passed[rank] >= PATIENCE]
        for rank in [*impatient, *Rank]:
            lines = self._lines[rank]
            for address in lines:  # skips few addresses: only those that use all their places
                if self._has_room(address, rank):
                    turn = lines[address].popleft()
                    lines.move_to_end(address)
                    self._left(address, rank)
                    self._pass_over(rank)
                    return turn, address, rank
        return None

    def _pass_over(self, served: Rank) -> None:
        self._passed[served] = 0
        for rank in Rank:
            if rank > served:
                self._passed[rank] = self._passed[rank] + 1 if self._lines[rank] else 0

    def _leave(self, address: Hashable, turn: "asyncio.Future[None]") -> None:
        for rank, lines in self._lines.items():
            if turn in lines.get(address, ()):
                lines[address].remove(turn)
                self._left(address, rank)

    def _left(self, address: Hashable, rank: Rank) -> None:
        self._waiting -= 1
        if not self._lines[rank][address]:
            del self._lines[rank][address]

    def _push_out(self, rank: Rank) -> None:
        """Refuse the last question of the longest line of the worst rank; raises Refused unless `rank` is better."""
        worst = max(other for other in Rank if self._lines[other])
        if rank >= worst:
            raise crowded()
        address, line = max(self._lines[worst].items(), key=lambda entry: len(entry[1]))
        turn = line.pop()
        self._left(address, worst)
        if not turn.done():
            turn.set_exception(crowded())


def crowded() -> NotLetIn:
    """Return the 429 for a question that would have to wait behind too many others."""
    return too_many("too many tokens that were not seen before come at once; try again", retry_after=1.0)
