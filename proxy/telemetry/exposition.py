"""Readings of metrics, in the form that prometheus-client writes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from proxy.telemetry.metric_table import Meter

Labels = tuple[str, ...]
Spreading = tuple[Sequence[int], float]
"""A histogram: the number of values in each bucket, the one without a bound included, and their sum."""
Point = tuple[Labels, float | Spreading]
"""Label values, and the number or histogram for them."""
Reading = tuple[Meter, Callable[[], Iterable[Point]]]


class Moment(Collector):
    """A snapshot of `readings`. prometheus-client may render it later, in any thread."""

    def __init__(self, readings: Iterable[Reading]) -> None:
        self._points = [(meter, list(read())) for meter, read in readings]

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        for meter, points in self._points:
            yield _family(meter, points)


def _family(meter: Meter, points: Iterable[Point]) -> Metric:
    if meter.kind == "histogram":
        return _histogram(meter, points)
    make = CounterMetricFamily if meter.kind == "counter" else GaugeMetricFamily
    family = make(meter.name, meter.help, labels=meter.labels)
    for labels, value in points:
        assert isinstance(value, int | float)  # noqa: S101 (only histograms have more)
        family.add_metric(labels, value)
    return family


def _histogram(meter: Meter, points: Iterable[Point]) -> Metric:
    bounds = [*map(floatToGoString, meter.buckets), "+Inf"]
    family = HistogramMetricFamily(meter.name, meter.help, labels=meter.labels)
    for labels, value in points:
        assert isinstance(value, tuple)  # noqa: S101 (a histogram has nothing else)
        counts, total = value
        family.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
    return family
