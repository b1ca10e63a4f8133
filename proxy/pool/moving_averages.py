"""Moving averages: how long something takes lately."""

from collections.abc import Iterator
from typing import Final

TREND: Final = 0.2
"""How much of a moving average one new value is."""


def moved_average(before: float | None, value: float) -> float:
    """Return the average `before` after one more `value`."""
    return value if before is None else before + TREND * (value - before)


class MovingAverages:
    """Moving averages by key; beyond `size` of them, the one that got no value for longest is forgotten."""

    __slots__ = ("_noted_at", "_size", "_values")

    def __init__(self, size: int = 1000) -> None:
        self._size = size
        self._values: dict[str, float] = {}
        self._noted_at: dict[str, float] = {}

    def note(self, key: str, value: float, now: float) -> None:
        """Take one more value."""
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
        """Return the averages that got a value since `then`."""
        return ((key, self._values[key]) for key, at in self._noted_at.items() if at >= then)

    def __len__(self) -> int:
        return len(self._values)
