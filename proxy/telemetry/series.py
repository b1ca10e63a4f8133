"""Numbers by label values, bounded in number whatever clients send.

They are plain numbers without locks, as only the event loop counts; so one costs a small part of a microsecond.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from proxy.telemetry.exposition import Labels, Point
from proxy.telemetry.metric_table import OTHER, Meter


class Names:
    """Values of one label: the first `limit` are told apart, and all others are `OTHER`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def admit(self, name: str) -> str:
        """Return what `name` counts as."""
        if name in self._known:
            return name
        if len(self._known) >= self._limit:
            return OTHER
        self._known.add(name)
        return name


class Count:
    """A number that grows."""

    __slots__ = ("_value",)

    def __init__(self) -> None:
        self._value = 0.0

    def add(self, amount: float = 1.0) -> None:
        """Let it grow."""
        self._value += amount

    def read(self) -> float:
        """Return it."""
        return self._value


class Spread:
    """How values spread over buckets, by the buckets' upper bounds."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def read(self) -> tuple[Sequence[int], float]:
        """Return how many values are in each bucket, the one without a bound included, and their sum."""
        return tuple(self._counts), self._sum


T = TypeVar("T", bound=Count | Spread)


class Series(Generic[T]):
    """One metric with what it counts by label values, of which there are only so many sets.

    Beyond `Meter.limit` the labels with values from outside count as `OTHER`; the values of all others are those that
    the policy file and the code know.
    """

    def __init__(self, meter: Meter, make: Callable[[], T]) -> None:
        self.meter = meter
        self.folded = 0
        """How many times something was counted as `OTHER` because of the limit."""
        self._make = make
        self._sets: dict[Labels, T] = {}
        if not meter.labels:
            self.of()

    def of(self, *values: str) -> T:
        """Return what counts for these label values."""
        found = self._sets.get(values)
        return self._new(values) if found is None else found

    def _new(self, values: Labels) -> T:
        if len(self._sets) >= self.meter.limit:
            self.folded += 1
            values = tuple(OTHER if number in self.meter.outside else value for number, value in enumerate(values))
            if values in self._sets:
                return self._sets[values]
        made = self._sets[values] = self._make()
        return made

    def read(self) -> Iterable[Point]:
        """Return everything as it is now."""
        return [(values, counted.read()) for values, counted in self._sets.items()]


def counter(meter: Meter) -> Series[Count]:
    """Return the counter that `meter` describes."""
    return Series(meter, Count)


def histogram(meter: Meter) -> Series[Spread]:
    """Return the histogram that `meter` describes."""
    return Series(meter, lambda: Spread(meter.buckets))
