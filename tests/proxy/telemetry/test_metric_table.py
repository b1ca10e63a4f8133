"""The table of metrics keeps to Prometheus' rules for names."""

import re

import pytest

from proxy.telemetry.metric_table import METERS, PROCESS, Meter

ALL = (*METERS, *PROCESS)


def test_no_name_twice() -> None:
    assert len({meter.name for meter in ALL}) == len(ALL)


@pytest.mark.parametrize("meter", METERS, ids=lambda meter: meter.name)
def test_names_and_units(meter: Meter) -> None:
    assert re.fullmatch(r"(ollama_proxy|gen_ai)_[a-z_]+", meter.name)
    assert meter.name.endswith("_total") == (meter.kind == "counter")
    assert bool(meter.buckets) == (meter.kind == "histogram")
    assert list(meter.buckets) == sorted(set(meter.buckets))
    assert all(re.fullmatch(r"[a-z_]+", label) for label in meter.labels)
    assert meter.help.endswith(".")


def test_labels_from_outside_are_those_that_can_be_folded() -> None:
    meter = Meter("x_total", "counter", "X.", ("class", "model", "backend", "tenant"))
    assert meter.outside == (1, 3)
