"""proxy/telemetry/across_workers.py."""

from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector

from proxy.telemetry import metric_table
from proxy.telemetry.across_workers import Departed, across, counters_of, document, merged
from proxy.telemetry.metric_table import METERS, PROCESS, Meter

REQUESTS = metric_table.REQUESTS.name
DURATION = metric_table.DURATION.name
LABELS = ["inference", "/api/chat", "m", "b1", "", "completed", "2xx"]


def values(*documents: Mapping[str, Any]) -> dict[str, Any]:
    return {meter.name: dict(points) for meter, points in merged(documents)}


def test_counters_and_histograms_are_summed_by_their_labels() -> None:
    one = {REQUESTS: [[LABELS, 2.0]], DURATION: [[["inference"], [[1, 0, 2], 0.5]]]}
    two = {REQUESTS: [[LABELS, 3.0], [["x"] * 7, 1.0]], DURATION: [[["inference"], [[0, 1, 1], 1.0]]]}
    found = values(one, two)
    assert found[REQUESTS] == {tuple(LABELS): 5.0, ("x",) * 7: 1.0}
    assert found[DURATION] == {("inference",): ([1, 1, 3], 1.5)}


@pytest.mark.parametrize(
    ("meter", "value"),
    [
        (metric_table.IN_FLIGHT, 5),
        (metric_table.BODY_MEMORY, 5),
        (metric_table.WORKERS, 5),
        (metric_table.RELOADS, 3),
        (metric_table.BACKEND_STATE, 3),
        (metric_table.CONNECTIONS_LIMIT, 3),
        (metric_table.RELOAD_OK, 2),
    ],
    ids=lambda value: value.name if isinstance(value, Meter) else "",
)
def test_what_they_share_is_not_summed(meter: Meter, value: float) -> None:
    assert values({meter.name: [[["x"], 2]]}, {meter.name: [[["x"], 3]]})[meter.name] == {("x",): value}


def test_every_counter_is_a_sum_but_that_of_reloads() -> None:
    odd = [meter.name for meter in (*METERS, *PROCESS) if meter.kind != "gauge" and across(meter) != "sum"]
    assert odd == [metric_table.RELOADS.name]


def test_they_come_in_the_order_of_the_table_and_what_is_unknown_is_left_out() -> None:
    found = [meter.name for meter, _ in merged([{DURATION: [], "new_in_another_version": [[[], 1]], REQUESTS: []}])]
    assert found == [REQUESTS, DURATION]


def test_a_document_has_the_numbers_of_the_process_too() -> None:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    found = document([(metric_table.WORKERS, lambda: [((), 1)])], registry)
    assert set(found) == {metric_table.WORKERS.name, *(meter.name for meter in PROCESS)}


def test_of_one_that_is_gone_the_counters_stay() -> None:
    departed = Departed()
    now = {REQUESTS: [[LABELS, 2.0]], metric_table.IN_FLIGHT.name: [[["inference"], 7]]}
    assert departed.note(1, now) == now
    assert departed.note(1, None) == now, "it only does not answer"
    departed.gone(1)
    assert departed.note(1, None) is None
    departed.note(1, {REQUESTS: [[LABELS, 1.0]]})
    departed.gone(1)
    departed.gone(2)  # which had never been asked
    found = values(departed.document(3))
    assert found == {REQUESTS: {tuple(LABELS): 3.0}, metric_table.WORKERS_ENDED.name: {(): 3}}
    assert counters_of([]) == {}
