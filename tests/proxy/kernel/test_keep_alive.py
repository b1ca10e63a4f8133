"""proxy/kernel/keep_alive.py; tests/middleware/parameters/test_go_values.py compares it with a model of Go."""

import math
from typing import Any

import pytest

from proxy.kernel.keep_alive import FOREVER, read_lifetime


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0), (600, 600), (0.5, 0), (1.9, 1), (-1, FOREVER), (-0.5, FOREVER), (-0.0, 0),
        ("0", 0), ("5m", 300), ("1h30m", 5400), ("1.5h", 5400), (".5s", 0.5), ("5.s", 5), ("100ms", 0.1), ("+1m", 60),
        ("2us", 2e-6), ("2\u00b5s", 2e-6), ("2\u03bcs", 2e-6), ("3ns", 3e-9), ("-1s", FOREVER), ("-0s", 0),
        ("-1ns", FOREVER), ("1s1m1s", 62), ("0.9ns", 0), ("-0.9ns", 0), ("0.0000000009s", 0),
        ("2540400h10m10s", 9145440610),
    ],
)  # fmt: skip
def test_lifetimes_are_read_as_go_reads_durations(value: Any, seconds: float) -> None:
    assert math.isclose(read_lifetime(value), seconds)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "5",
        "-5",
        ".s",
        "1d",
        "1 m",
        " 1m",
        "1m ",
        "m",
        "1M",
        "1e3s",
        "--1s",
        "1m-1s",
        "٣s",
        "1s" * 99,
        True,
        [],
        {},
        "0 ",
        1e10,
        18446744074,
        "2562048h",
        "9223372036854775808ns",
    ],
)
def test_what_is_no_lifetime(value: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        read_lifetime(value)
