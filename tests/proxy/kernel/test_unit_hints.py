"""proxy/kernel/unit_hints.py."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel import unit_hints
from proxy.kernel.unit_hints import AT_LEAST_ONE, NEVER
from proxy.kernel.units import Mistake, Rate, parse_amount, parse_percent, parse_size, parse_time, parse_time_or_zero


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (30, "write 30s for seconds"),
        ("30", "write 30s for seconds"),
        (0, "write 0s for seconds"),
        (-1, NEVER),
        ("-1s", NEVER),
        ("off", NEVER),
        ("Never", NEVER),
        ("1h30m", "write 90m"),
        ("1h 30m", "write 90m"),
        ("1 hour and 5 minutes", "write 65m"),
        ("2m30s", "write 150s"),
        ("10sec", "write 10s"),
        ("10 S", "write 10s"),
        ("10 minutes", "write 10m"),
        (".5s", "write 500ms"),
        ("week", "write 7d"),
        ("2w", "write 14d"),
        ("1 year", "write 365d"),
        ("1 fortnight", None),
        ("", None),
        ("s s", None),
        (True, None),
        (None, None),
        ([], None),
    ],
)
def test_durations(value: object, hint: str | None) -> None:
    assert unit_hints.duration(value) == hint


def test_where_nothing_would_not_do_it_is_not_suggested() -> None:
    assert unit_hints.duration(0, zero=False) == NEVER
    assert unit_hints.duration("0sec", zero=False) is None
    assert unit_hints.duration("0sec") == "write 0s"


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (65536, "write 65536B for bytes"),
        ("65536", "write 65536B"),
        ("64M", "write 64MB, or 64MiB"),
        ("64m", "write 64MB, or 64MiB"),
        ("64mb", "write 64MB"),
        ("64 MB", "write 64MB"),
        ("64Mi", "write 64MiB"),
        ("64mib", "write 64MiB"),
        ("1 gb", "write 1GB"),
        ("512 bytes", "write 512B"),
        ("0", "write 0B"),
        (0, "a size is at least 1B"),
        (-1, "a size is at least 1B"),
        ("64 pieces", None),
        (False, None),
        (None, None),
    ],
)
def test_sizes(value: object, hint: str | None) -> None:
    assert unit_hints.size(value) == hint


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (60, "write 60/minute, or another period"),
        ("60/min", "write 60/minute"),
        ("60 per minute", "write 60/minute"),
        ("60 a day", "write 60/day"),
        ("60/m", "write 60/minute"),
        ("60/s", "write 60/second"),
        ("60/week", "write 60/7d"),
        ("60/2 hours", "write 60/2h"),
        ("1k/minute", "write 1000/minute"),
        ("60rpm", "write 60/minute"),
        ("60/months", "write 60/month"),
        ("0/minute", AT_LEAST_ONE),
        ("-1/day", AT_LEAST_ONE),
        (0, AT_LEAST_ONE),
        (-1, AT_LEAST_ONE),
        ("60/fortnight", None),
        ("60/0s", None),
        (True, None),
        (None, None),
    ],
)
def test_rates(value: object, hint: str | None) -> None:
    assert unit_hints.rate(value) == hint


WRITTEN = (
    st.integers(-5, 10**18)
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.from_regex(r"\A-?[0-9]{0,4}\.?[0-9]{0,3} ?[a-zA-Z%]{0,6}\Z")
    | st.from_regex(r"\A[0-9]{1,4}[hms]([0-9]{1,4}[hms])?\Z")
    | st.from_regex(r"\A-?[0-9]{1,4}k?( per | a |/| / )[0-9]{0,2} ?[a-z]{1,7}\Z")
)


@given(WRITTEN)
def test_what_a_hint_says_is_taken(value: Any) -> None:
    readers: tuple[Any, ...] = (parse_time, parse_time_or_zero, parse_size, parse_amount, parse_percent, Rate.parse)
    for read in readers:
        try:
            read(value)
        except Mistake as mistake:
            for wanted in re.findall(r"(?:write|or) ([0-9][^ ,]*)", mistake.hint or ""):
                read(wanted)
