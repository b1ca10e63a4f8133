"""proxy/series.py."""

from prometheus_client import CollectorRegistry

from proxy.meters import OTHER, SETS, SPREAD, Meter
from proxy.series import Names, counter, histogram

COUNTER = Meter("things_total", "counter", "Things.", ("class", "model"))


def test_the_first_names_are_told_apart_and_stay_so() -> None:
    names = Names(2)
    assert [names.admit(name) for name in ("a", "b", "c", "a", "c")] == ["a", "b", OTHER, "a", OTHER]


def test_the_same_values_are_the_same_child() -> None:
    series = counter(COUNTER, CollectorRegistry())
    assert series.of("read", "m") is series.of("read", "m")
    assert series.of("read", "m") is not series.of("read", "n")


def test_label_sets_beyond_the_limit_are_folded() -> None:
    registry = CollectorRegistry()
    series = counter(COUNTER, registry)
    for number in range(SETS + 100):
        series.of("read", f"m{number}").inc()
    series.of("manage", "m").inc()
    series.of("read", "m0").inc()
    assert registry.get_sample_value("things_total", {"class": "read", "model": OTHER}) == 100
    assert registry.get_sample_value("things_total", {"class": "manage", "model": OTHER}) == 1
    assert registry.get_sample_value("things_total", {"class": "read", "model": "m0"}) == 2
    assert series.folded == 101
    assert sum(1 for family in registry.collect() for _ in family.samples) == SETS + 2


def test_a_histogram_has_fewer_sets() -> None:
    registry = CollectorRegistry()
    series = histogram(Meter("seconds", "histogram", "S.", ("model",), (1.0, 2.0)), registry)
    for number in range(SPREAD + 1):
        series.of(f"m{number}").observe(1.5)
    assert registry.get_sample_value("seconds_bucket", {"model": OTHER, "le": "2.0"}) == 1
    assert registry.get_sample_value("seconds_bucket", {"model": "m0", "le": "1.0"}) == 0


def test_without_labels() -> None:
    registry = CollectorRegistry()
    counter(Meter("things_total", "counter", "Things."), registry).of().inc(3)
    assert registry.get_sample_value("things_total") == 3
