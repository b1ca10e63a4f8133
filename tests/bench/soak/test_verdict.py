"""A soak that found something fails, and says what."""

import pytest

from bench.soak.verdict import faults, lag_fault, log_faults, rows

BEGIN = {
    "memory": 100 * 2**20, "series": 300.0, "tasks": 9.0, "threads": 4.0, "descriptors": 20.0, "requests running": 0.0,
    "slots taken": 0.0, "waiting": 0.0, "body bytes": 0.0, "log lines lost": 0.0,
}  # fmt: skip


def test_an_end_like_the_beginning_is_right() -> None:
    assert faults(BEGIN, BEGIN, 0.05) == []
    assert faults(BEGIN, {**BEGIN, "memory": 104 * 2**20, "descriptors": 22.0}, 0.05) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memory", 106 * 2**20),
        ("series", 320.0),
        ("tasks", 12.0),
        ("descriptors", 24.0),
        ("threads", 8.0),
        ("requests running", 1.0),
        ("slots taken", 1.0),
        ("waiting", 1.0),
        ("body bytes", 1.0),
        ("log lines lost", 1.0),
    ],
)
def test_what_grew_or_stayed_is_named(name: str, value: float) -> None:
    (found,) = faults(BEGIN, {**BEGIN, name: value}, 0.05)
    assert found.startswith(f"{name}: ")


def test_a_loop_that_lags_more_is_named() -> None:
    assert lag_fault(0.01, 0.01) == []
    assert lag_fault(0.001, 0.01) == []  # nobody notices
    assert lag_fault(0.01, 0.25)


@pytest.mark.parametrize(
    ("answers", "asked", "lines", "broken", "right"),
    [
        (10, 12, 10, 2, True),
        (10, 12, 12, 2, True),
        (10, 12, 9, 2, False),
        (10, 12, 13, 9, False),
        (10, 20, 13, 2, False),
    ],
)
def test_each_answer_has_its_line(answers: int, asked: int, lines: int, broken: int, right: bool) -> None:
    assert (log_faults(answers, asked, lines, broken) == []) is right


def test_the_table_shows_bytes_as_people_read_them() -> None:
    assert ("memory", "100.0 MiB", "110.0 MiB", "+10.0 %") in rows(BEGIN, {**BEGIN, "memory": 110 * 2**20})
