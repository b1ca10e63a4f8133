"""proxy/telemetry/series.py."""

import pytest

from proxy.telemetry.metric_table import OTHER, SETS, SPREAD, Meter
from proxy.telemetry.series import Names, Spread, counter, histogram

COUNTER = Meter("things_total", "counter", "Things.", ("class", "model"))


def test_the_first_names_are_told_apart_and_stay_so() -> None:
    names = Names(2)
    assert [names.admit(name) for name in ("a", "b", "c", "a", "c")] == ["a", "b", OTHER, "a", OTHER]


def test_the_same_values_are_the_same_number() -> None:
    series = counter(COUNTER)
    assert series.of("read", "m") is series.of("read", "m")
    assert series.of("read", "m") is not series.of("read", "n")


def test_label_sets_beyond_the_limit_are_folded() -> None:
    series = counter(COUNTER)
    for number in range(SETS + 100):
        series.of("read", f"m{number}").add()
    series.of("manage", "m").add()
    series.of("read", "m0").add()
    read = dict(series.read())
    assert read["read", OTHER] == 100
    assert read["manage", OTHER] == 1
    assert read["read", "m0"] == 2
    assert series.folded == 101
    assert len(read) == SETS + 2


def test_a_histogram_has_fewer_sets() -> None:
    series = histogram(Meter("seconds", "histogram", "S.", ("model",), (1.0, 2.0)))
    for number in range(SPREAD + 1):
        series.of(f"m{number}").observe(1.5)
    read = dict(series.read())
    assert len(read) == SPREAD + 1
    assert read[OTHER,] == read["m0",] == ((0, 1, 0), 1.5)


@pytest.mark.parametrize(
    ("value", "counts"),
    [(-1.0, (1, 0, 0)), (0.0, (1, 0, 0)), (1.0, (1, 0, 0)), (1.1, (0, 1, 0)), (2.0, (0, 1, 0)), (9.0, (0, 0, 1))],
)
def test_a_bound_belongs_to_its_bucket(value: float, counts: tuple[int, ...]) -> None:
    spread = Spread((1.0, 2.0))
    spread.observe(value)
    assert spread.read() == (counts, value)


def test_what_was_read_stays_as_it_was() -> None:
    series = histogram(Meter("seconds", "histogram", "S.", (), (1.0,)))
    before = list(series.read())
    series.of().observe(0.5)
    assert before == [((), ((0, 0), 0.0))]


def test_without_labels_there_is_a_number_from_the_start() -> None:
    series = counter(Meter("things_total", "counter", "Things."))
    assert list(series.read()) == [((), 0.0)]
    series.of().add(3)
    assert list(series.read()) == [((), 3.0)]
