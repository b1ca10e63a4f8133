"""The people of one tenant: within each of the tenant's flows they take turns, and each has so many waiters.

A tenant is one caller for all others, however many people it stands for. Which of them goes next is decided here, by
the same numbers as between tenants: the *turn* of a person is the tokens up to which it has paid for what it got; a
waiter goes at its person's turn, and its cost moves the turn of the next one on. A person that comes (again) starts at
the clock, the turn of who went last, or at its debt. Waiters for whom no person is named are those of one person, None;
where there is no other, they go in the order of arrival.
"""

from collections import OrderedDict
from heapq import heapify, heappop, heappush
from typing import Final, Generic, TypeVar

REMEMBERED: Final = 512
"""How many people without waiters are remembered, as long as they have a debt."""

E = TypeVar("E")


class Person(Generic[E]):
    """A person of a tenant with waiters.

    Attributes:
        name: as the tenant named it; None for waiters for whom no person was named.
        entries: its waiters in the order of arrival.
    """

    __slots__ = ("entries", "name")

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.entries: OrderedDict[E, None] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Number of waiters."""
        return len(self.entries)

    @property
    def crowding(self) -> float:
        """Number of waiters; people of one tenant weigh the same."""
        return len(self.entries)


class PeoplesTurns(Generic[E]):
    """The order in which the waiters of one flow go. Each has a number, higher than those of all that came before."""

    __slots__ = ("_clock", "_costs", "_heap", "_turns", "_waiting")

    def __init__(self) -> None:
        self._clock = 0.0
        self._turns: dict[str | None, float] = {}  # of those with waiters or a debt
        self._costs: dict[str | None, list[int]] = {}  # of those with waiters: how many, and what they ask for
        self._waiting: dict[int, E] = {}
        self._heap: list[tuple[float, int]] = []  # turn and number; outdated where no such number waits

    def push(self, person: str | None, cost: int, number: int, entry: E) -> None:
        """Add a waiter that asks for `cost` tokens."""
        heappush(self._heap, (self._pay(person, cost), number))
        self._waiting[number] = entry
        asked = self._costs.setdefault(person, [0, 0])
        asked[0] += 1
        asked[1] += cost

    def first(self) -> E:
        """Return the waiter that goes next. There must be one."""
        heap = self._heap
        while heap[0][1] not in self._waiting:
            heappop(heap)
        return self._waiting[heap[0][1]]

    def serve(self) -> None:
        """Let the first waiter go; `leave` is still to be called."""
        self.first()
        self._clock = max(self._clock, self._heap[0][0])

    def leave(self, person: str | None, cost: int, number: int) -> None:
        """Remove a waiter, which goes or has left."""
        del self._waiting[number]
        asked = self._costs[person]
        asked[0] -= 1
        asked[1] -= cost
        if not asked[0]:
            del self._costs[person]
            self._tidy()
        if len(self._heap) > 2 * len(self._waiting) + REMEMBERED:
            self._heap = [place for place in self._heap if place[1] in self._waiting]
            heapify(self._heap)

    def charge(self, person: str | None, cost: int) -> None:
        """Let a person pay for a request that did not wait."""
        self._clock = max(self._clock, self._pay(person, cost))
        self._tidy()

    def before(self, person: str | None, cost: int, asked: int) -> int:
        """Return about how many of the `asked` tokens of all waiters go before a request of `person` that comes now."""
        own = self._costs.get(person)
        others = len(self._costs) - (own is not None)
        if not others:
            return asked
        mine = 0 if own is None else own[1]
        return min(asked, mine + others * (mine + cost))

    def _pay(self, person: str | None, cost: int) -> float:
        """Move the turn of a person on by `cost`, and return what it was."""
        turn = max(self._clock, self._turns.pop(person, 0.0))
        self._turns[person] = turn + cost
        return turn

    def _tidy(self) -> None:
        """Forget who neither waits nor has a debt, and of the others without waiters all but the latest."""
        if len(self._turns) <= len(self._costs) + 2 * REMEMBERED:
            return
        idle = [name for name, turn in self._turns.items() if name not in self._costs and turn > self._clock]
        kept = {*idle[-REMEMBERED:], *self._costs}
        self._turns = {name: turn for name, turn in self._turns.items() if name in kept}
