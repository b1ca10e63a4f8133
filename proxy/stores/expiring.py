"""A dictionary whose values expire."""

from collections import OrderedDict
from typing import Final, Generic, Protocol, TypeVar

MOST: Final = 100_000
"""Largest number of values; one of a moving window takes about a kilobyte."""


class Expiring(Protocol):
    """A value that expires at `expires`, by the clock that `now` is taken from; it may be moved on."""

    expires: float


T = TypeVar("T", bound=Expiring)


class ExpiringDict(Generic[T]):
    """Values by key, each dropped after it has expired.

    Each added key has two older ones checked in turn, and dropped where they have expired. So expired values leave
    memory at least as fast as new keys come, and no single call pays for all of them. Beyond `MOST` values the one that
    was checked longest ago is dropped even if it has not expired: clients choose keys, such as the name of a model.
    """

    def __init__(self) -> None:
        self._values: OrderedDict[str, T] = OrderedDict()

    def get(self, key: str, now: float) -> T | None:
        """Return the value of `key`, None where there is none or it has expired."""
        value = self._values.get(key)
        return value if value is not None and value.expires >= now else None

    def put(self, key: str, value: T, now: float) -> T:
        """Set `value` and return it. The caller may set its `expires` right afterwards."""
        self._values.pop(key, None)
        for _ in range(min(2, len(self._values))):
            other, old = self._values.popitem(last=False)
            if old.expires >= now and len(self._values) < MOST - 1:
                self._values[other] = old
        self._values[key] = value
        return value

    def pop(self, key: str) -> None:
        """Drop the value of `key`, if there is one."""
        self._values.pop(key, None)

    def clear(self) -> int:
        """Drop all values; return how many there were."""
        size = len(self._values)
        self._values.clear()
        return size

    def __len__(self) -> int:
        return len(self._values)
