"""A dictionary that forgets."""

from collections import OrderedDict
from typing import Final, Generic, Protocol, TypeVar

MOST: Final = 100_000
"""Values; one of a moving window takes about a kilobyte."""


class Expiring(Protocol):
    """Something that is over after `expires` (seconds, 1970 based), which may move on."""

    expires: float


T = TypeVar("T", bound=Expiring)


class Shelf(Generic[T]):
    """Values by key, each gone after its time.

    Whenever a key is added, two that were there before are looked at, in turn, and dropped where their time is over. So
    what is forgotten leaves memory at least as fast as new keys come, and no moment pays for all of them. Beyond `MOST`
    the one looked at longest ago goes before its time: a key may hold what a client made up, the name of a model.
    """

    def __init__(self) -> None:
        self._values: OrderedDict[str, T] = OrderedDict()

    def get(self, key: str, now: float) -> T | None:
        """Return the value, unless its time is over."""
        value = self._values.get(key)
        return value if value is not None and value.expires >= now else None

    def put(self, key: str, value: T, now: float) -> T:
        """Set `value` and return it. It may get its `expires` right afterwards."""
        self._values.pop(key, None)
        for _ in range(min(2, len(self._values))):
            other, old = self._values.popitem(last=False)
            if old.expires >= now and len(self._values) < MOST - 1:
                self._values[other] = old
        self._values[key] = value
        return value

    def pop(self, key: str) -> None:
        """Drop a value, if it is there."""
        self._values.pop(key, None)

    def clear(self) -> int:
        """Drop all; return how many there were."""
        size = len(self._values)
        self._values.clear()
        return size

    def __len__(self) -> int:
        return len(self._values)
