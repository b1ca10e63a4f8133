"""Whatever is in an event, it becomes one valid line."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel.log_lines import FORMATS, MAX_LINE, FormatName, clip, console_line, json_line, make_logger, stamp
from tests.support.logs import Lines

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**63),
    st.floats(),
    st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "Z", "C"])),
    st.binary(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
    max_leaves=12,
)


def is_one_line(line: bytes) -> bool:
    # str.splitlines splits at everything any log reader splits at, U+2028 and NEL included.
    return len(line.decode().splitlines()) <= 1 and b"\x1b" not in line and b"\x7f" not in line


@given(st.dictionaries(st.text(), VALUES, max_size=6))
def test_any_event_is_one_valid_bounded_json_line(event: dict[str, object]) -> None:
    line = json_line(event)
    assert is_one_line(line)
    assert len(line) <= MAX_LINE
    assert isinstance(json.loads(line), dict)


@given(st.dictionaries(st.text(min_size=1, alphabet="abcdef_"), VALUES, max_size=6))
def test_any_event_is_one_console_line(fields: dict[str, object]) -> None:
    line = console_line({"time": stamp(0), "level": "info", "event": "x", **fields})
    assert is_one_line(line)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\r\nb\x1b[31m", "a\r\nb\x1b[31m"),
        ("a\u2028b\u2029c\x85d\x9be\u202ef\u2066g", "a\u2028b\u2029c\x85d\x9be\u202ef\u2066g"),
        ("é€😀", "é€😀"),
        ("\udc80x", "\\udc80x"),
        (2**64, "<integer of 65 bits>"),
        (-(2**63), -(2**63)),
        (2**20000, "<integer of 20001 bits>"),
        (float("nan"), None),
        ({1: 2}, {"1": 2}),
        (b"raw", "b'raw'"),
        (Path("x"), "PosixPath('x')"),
        ([{"a": {2}}], [{"a": "{2}"}]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_come_back_as_they_were_or_spelled_out(value: object, expected: object) -> None:
    line = json_line({"value": value})
    assert is_one_line(line)
    assert json.loads(line)["value"] == expected


def test_what_a_dataclass_hides_stays_hidden() -> None:
    @dataclass
    class Login:
        name: str
        password: str = field(repr=False)

    assert b"hunter2" not in json_line({"login": Login("alice", "hunter2")})


def test_a_value_whose_repr_fails_does_not_fail_the_call() -> None:
    class Bad:
        def __repr__(self) -> str:
            raise RuntimeError

    assert json.loads(json_line({"value": Bad()})) == {"value": "<Bad>"}


def test_nesting_without_end_is_cut() -> None:
    value: Any = []
    for _ in range(1000):
        value = [value]
    assert json.loads(json_line({"event": "x", "value": value}))["event"] == "x"


def test_a_long_line_is_clipped_and_says_so() -> None:
    clipped = json.loads(json_line({"event": "x", "value": "y" * MAX_LINE, "n": 1}))
    assert (clipped["event"], len(clipped["value"]), clipped["n"], clipped["clipped"]) == ("x", 512, 1, True)


def test_a_line_too_long_in_every_field_keeps_its_head() -> None:
    wide = {str(n): ["\0" * 512] * 64 for n in range(64)}
    line = json_line({"time": "t", "level": "info", "event": "x", **wide})
    assert len(line) <= MAX_LINE
    assert json.loads(line) | {"event": "x", "clipped": True} == json.loads(line)


def test_console_line() -> None:
    event = {"time": stamp(1.5), "level": "info", "event": "request", "model": "llama3:8b", "who": "a b", "none": None}
    assert console_line(event) == b'00:00:01.500 info     request model=llama3:8b who="a b"'


def test_a_console_line_is_one_line_whatever_stands_in_its_names_and_head() -> None:
    deep: Any = []
    for _ in range(2000):
        deep = [deep]
    for head in ("\x1b[2J" * 9, deep, 2**70):
        line = console_line({"time": head, "level": head, "event": head, "a\u2028b\n": 1})
        assert is_one_line(line)
        assert b'"a\\u2028b\\n"=1' in line


@pytest.mark.parametrize("format", ["ecs", "otel"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400, "x", None, True])
def test_no_time_makes_a_line_of_another_dialect_fail(format: FormatName, value: object) -> None:
    assert isinstance(json.loads(FORMATS[format]({"event": "x", "total_ms": value, "ttft_ms": value})), dict)


def test_console_shows_a_traceback_on_safe_lines_of_its_own() -> None:
    event = {"time": stamp(0), "level": "error", "event": "x", "exception": "Traceback\n  File\nE: \x1b[2J\u2028evil"}
    lines = console_line(event).decode().split("\n")
    assert lines == ["00:00:00.000 error    x", "    Traceback", "      File", '    "E: \\u001b[2J"', "    evil"]


def test_stamp_is_rfc_3339() -> None:
    assert stamp(0) == "1970-01-01T00:00:00.000Z"
    assert stamp(1769903999.9996) == "2026-01-31T23:59:59.999Z"


def test_clip() -> None:
    assert clip("abc", 3) == "abc"
    assert clip("abcd", 3) == "ab…"


def test_make_logger_puts_time_level_and_event_first() -> None:
    lines = Lines()
    make_logger(lines, "json", now=lambda: 0.0).warning("request", b=1, a=2)
    begin = b'{"time":"1970-01-01T00:00:00.000Z","level":"warning","event":"request","schema":1'
    assert lines.raw == [begin + b',"b":1,"a":2}']
