"""Label values and label sets, bounded in number whatever clients send."""

from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram

from proxy.meters import OTHER, Meter

M = TypeVar("M", Counter, Histogram)


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


class Series(Generic[M]):
    """One metric with its children, of which there are only so many.

    Beyond `Meter.limit` the labels with values from outside count as `OTHER`; the values of all others are those that
    the policy file and the code know.
    """

    def __init__(self, metric: M, meter: Meter) -> None:
        self.folded = 0
        """How many times something was counted as `OTHER` because of the limit."""
        self._metric: M = metric
        self._limit = meter.limit
        self._outside = meter.outside
        self._children: dict[tuple[str, ...], M] = {}

    def of(self, *values: str) -> M:
        """Return what counts for these label values."""
        child = self._children.get(values)
        return self._new(values) if child is None else child

    def _new(self, values: tuple[str, ...]) -> M:
        if len(self._children) >= self._limit:
            self.folded += 1
            values = tuple(OTHER if number in self._outside else value for number, value in enumerate(values))
            if values in self._children:
                return self._children[values]
        child = self._children[values] = self._metric.labels(*values) if values else self._metric
        return child


def counter(meter: Meter, registry: CollectorRegistry) -> Series[Counter]:
    """Return the counter that `meter` describes, in `registry`."""
    metric: Counter = Counter(meter.name, meter.help, meter.labels, registry=registry)
    return Series(metric, meter)


def histogram(meter: Meter, registry: CollectorRegistry) -> Series[Histogram]:
    """Return the histogram that `meter` describes, in `registry`."""
    return Series(Histogram(meter.name, meter.help, meter.labels, registry=registry, buckets=meter.buckets), meter)
