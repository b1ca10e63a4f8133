"""Find who has the most waiters for its weight, without a walk over all."""

from heapq import heapify, heappop, heappush, heapreplace
from typing import Final, Generic, Protocol, TypeVar

_OUTDATED: Final = 512
"""How many outdated places may be kept, beside one for each that has waiters."""


class Crowd(Protocol):
    """A tenant, or a person of one."""

    @property
    def waiting(self) -> int:
        """Number of waiters."""

    @property
    def crowding(self) -> float:
        """Number of waiters divided by the weight."""


C = TypeVar("C", bound=Crowd)


class Crowds(Generic[C]):
    """Finds the tenant with the most waiters for its weight, or of one tenant the person with the most."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, C]] = []

    def note(self, crowd: C, number: int, crowds: int) -> None:
        """Note that `crowd` has one more waiter, with `number`; `crowds` is how many of them have waiters."""
        heappush(self._heap, (-crowd.crowding, number, crowd))
        if len(self._heap) > 2 * crowds + _OUTDATED:
            # The largest count of each is enough: `largest` corrects it.
            latest = {place[2]: place for place in sorted(self._heap, reverse=True) if place[2].waiting}
            self._heap = list(latest.values())
            heapify(self._heap)

    def largest(self) -> C | None:
        """Return the one with the most waiters for its weight; None where nobody waits."""
        while self._heap:
            noted, number, crowd = self._heap[0]
            if not crowd.waiting:
                heappop(self._heap)
            elif noted < -crowd.crowding:
                heapreplace(self._heap, (-crowd.crowding, number, crowd))
            else:
                return crowd
        return None
