"""Series by label values; their number is bounded whatever clients send.

They are plain numbers without locks, as only the event loop counts; so one costs a small part of a microsecond.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from proxy.telemetry.exposition import Labels, Point
from proxy.telemetry.metric_table import OTHER, Meter


class Names:
    """Values of one label: the first `limit` have series of their own, all others count as `OTHER`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def admit(self, name: str) -> str:
        """Return the label value that `name` counts under."""
        if name in self._known:
            return name
        if len(self._known) >= self._limit:
            return OTHER
        self._known.add(name)
        return name


class Count:
    """A counter."""

    __slots__ = ("_value",)

    def __init__(self) -> None:
        self._value = 0.0

    def add(self, amount: float = 1.0) -> None:
        """Add to the counter."""
        self._value += amount

    def read(self) -> float:
        """Return the value."""
        return self._value


class Spread:
    """A histogram over buckets, given by their upper bounds."""

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
        """Return the number of values in each bucket, the one without a bound included, and their sum."""
        return tuple(self._counts), self._sum


T = TypeVar("T", bound=Count | Spread)


class Series(Generic[T]):
    """One metric with a counter or histogram for each set of label values, up to a bound.

    Beyond `Meter.limit` the labels with values from outside count as `OTHER`; the values of all others are those that
    the policy file and the code know.
    """

    def __init__(self, meter: Meter, make: Callable[[], T]) -> None:
        self.meter = meter
        self.folded = 0
        """Return how often label values counted as `OTHER` because of the bound."""
        self._make = make
        self._sets: dict[Labels, T] = {}
        if not meter.labels:
            self.of()

    def of(self, *values: str) -> T:
        """Return the counter or histogram of these label values."""
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
        """Return the current reading of every series."""
        return [(values, counted.read()) for values, counted in self._sets.items()]


def counter(meter: Meter) -> Series[Count]:
    """Return the counter that `meter` describes."""
    return Series(meter, Count)


def histogram(meter: Meter) -> Series[Spread]:
    """Return the histogram that `meter` describes."""
    return Series(meter, lambda: Spread(meter.buckets))
