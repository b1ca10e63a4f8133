"""Moving averages: how long something has taken recently."""

from collections.abc import Iterator
from typing import Final

NEWEST: Final = 0.2
"""Weight of the newest value in a moving average."""


def moved_average(before: float | None, value: float) -> float:
    """Return the moving average `before` after one more `value`; `before` is None for the first value."""
    return value if before is None else before + NEWEST * (value - before)


class MovingAverages:
    """Moving averages by key. Beyond `size` keys the one that got no value for longest is dropped."""

    __slots__ = ("_noted_at", "_size", "_values")

    def __init__(self, size: int = 1000) -> None:
        self._size = size
        self._values: dict[str, float] = {}
        self._noted_at: dict[str, float] = {}

    def note(self, key: str, value: float, now: float) -> None:
        """Add one value to the average of `key`."""
        self._values[key] = moved_average(self._values.get(key), value)
        self._noted_at.pop(key, None)  # so that the dict is in the order of use
        self._noted_at[key] = now
        if len(self._noted_at) > self._size:
            oldest = next(iter(self._noted_at))
            del self._noted_at[oldest], self._values[oldest]

    def get(self, key: str) -> float | None:
        """Return the average of `key`, None before its first value."""
        return self._values.get(key)

    def since(self, then: float) -> Iterator[tuple[str, float]]:
        """Yield the key and average of all that got a value since `then`."""
        return ((key, self._values[key]) for key, at in self._noted_at.items() if at >= then)

    def __len__(self) -> int:
        return len(self._values)
