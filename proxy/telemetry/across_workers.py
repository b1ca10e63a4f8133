"""The metrics of several worker processes as those of one proxy: sums, except where the table here says otherwise.

The documents are plain JSON, as they go from process to process: for each metric its points, each a list of label
values and a number, or the buckets and the sum of a histogram.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from prometheus_client import CollectorRegistry

from proxy.telemetry import metric_table
from proxy.telemetry.exposition import Point, Reading
from proxy.telemetry.metric_table import METERS, PROCESS, Meter

Across = Literal["sum", "max", "min"]
Document = Mapping[str, Sequence[Sequence[Any]]]
"""Points by the name of the metric."""

_LARGEST: Final = frozenset(
    {
        metric_table.RELOADS,  # each reload is one of all workers
        metric_table.CONNECTIONS_LIMIT,  # the workers share it
        metric_table.BODY_MEMORY_LIMIT,
        metric_table.BODY_MEMORY_LARGEST,
        metric_table.QUEUE_OLDEST,
        metric_table.BACKEND_INFO,  # each worker looks at the same backends
        metric_table.BACKEND_STATE,
        metric_table.BACKEND_SEEN,
        metric_table.BACKEND_SLOTS,
        metric_table.FLEET_PROXIES,
        metric_table.BACKEND_MODELS,
        metric_table.MODEL_SLOTS,
        metric_table.RESIDENT,
        metric_table.VRAM,
        metric_table.LOADING,
        metric_table.GENERATION,
        metric_table.LOADED_AT,
        metric_table.BUILD,
    }
)
_SMALLEST: Final = frozenset(
    {metric_table.RELOAD_OK, metric_table.FLEET_UP, *(m for m in PROCESS if m.name == "process_start_time_seconds")}
)
_BY_NAME: Final = {meter.name: meter for meter in (*METERS, *PROCESS)}
_FOLD: Final[Mapping[Across, Callable[[float, float], float]]] = {"sum": lambda a, b: a + b, "max": max, "min": min}


def across(meter: Meter) -> Across:
    """Return how the values of several workers become one."""
    return "max" if meter in _LARGEST else "min" if meter in _SMALLEST else "sum"


def document(readings: Iterable[Reading], process: CollectorRegistry) -> dict[str, list[Any]]:
    """Return the numbers of this process now."""
    found: dict[str, list[Any]] = {meter.name: list(read()) for meter, read in readings}
    for family in process.collect():
        for sample in family.samples:
            found[sample.name] = [((), sample.value)]
    return found


def merged(documents: Iterable[Document]) -> list[tuple[Meter, list[Point]]]:
    """Return the numbers of all `documents` as those of one proxy, in the order of the table."""
    found: dict[str, dict[tuple[str, ...], Any]] = {}
    for one in documents:
        for name, points in one.items():
            meter = _BY_NAME.get(name)
            if meter is None:
                continue
            mine = found.setdefault(name, {})
            for values, number in points:
                labels = tuple(values)
                mine[labels] = number if labels not in mine else _together(meter, mine[labels], number)
    return [(_BY_NAME[name], [(values, _point(n)) for values, n in found[name].items()]) for name in _order(found)]


def counters_of(documents: Iterable[Document]) -> dict[str, list[Any]]:
    """Return what only grows in `documents`, merged: it stays counted when the processes that counted it are gone.

    Otherwise a sum would fall when a worker dies, and whoever computes a rate from it would take that for a restart.
    """
    kept = [one for one in merged(documents) if one[0].kind != "gauge"]
    return {meter.name: [[list(values), number] for values, number in points] for meter, points in kept}


class Departed:
    """The numbers that workers had counted when they were last asked: of those that are gone, and of silent ones."""

    def __init__(self) -> None:
        self._last: dict[int, Document] = {}
        self._counted: dict[str, list[Any]] = {}

    def note(self, number: int, document: Document | None) -> Document | None:
        """Return the numbers of a worker: `document`, or where there is none its last one."""
        if document is not None:
            self._last[number] = document
        return self._last.get(number)

    def gone(self, number: int) -> None:
        """Keep what a worker has counted that is gone."""
        last = self._last.pop(number, None)
        if last is not None:
            self._counted = counters_of([self._counted, last])

    def document(self, ended: int) -> Document:
        """Return what those had counted that are gone; `ended` is how many were replaced."""
        return {**self._counted, metric_table.WORKERS_ENDED.name: [((), ended)]}


def _together(meter: Meter, one: Any, other: Any) -> Any:
    if meter.kind == "histogram":
        return [a + b for a, b in zip(one[0], other[0], strict=True)], one[1] + other[1]
    return _FOLD[across(meter)](one, other)


def _point(number: Any) -> Any:
    return (number[0], number[1]) if isinstance(number, list | tuple) else number


def _order(names: Iterable[str]) -> Iterator[str]:
    present = set(names)
    return (name for name in _BY_NAME if name in present)
