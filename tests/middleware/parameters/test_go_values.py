"""middleware/parameters/go_values.py."""

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from middleware.parameters.go_values import (
    read_cut,
    read_flag,
    read_number,
    read_text_or_texts,
    read_texts,
    read_whole,
    write_lifetime,
    write_texts,
)
from proxy.kernel.keep_alive import FOREVER, read_lifetime, read_nanoseconds


@pytest.mark.parametrize(
    ("value", "written"),
    [(600.0, 600), (0.0, 0), (0.25, "250ms"), (1.5, "1500ms"), (0.0015, "1500000ns"), (FOREVER, -1), ("forever", -1)],
)
def test_lifetimes_are_written(value: Any, written: Any) -> None:
    assert write_lifetime(value) == written
    assert read_lifetime(written) == (FOREVER if written == -1 else value)


@given(st.floats(0, 10**7).map(lambda seconds: round(seconds, 3)))
def test_what_is_written_is_read_again(seconds: float) -> None:
    assert math.isclose(read_lifetime(write_lifetime(seconds)), seconds, abs_tol=1e-3)


class GoError(ValueError):
    """What encoding/json, Options.FromMap or time.ParseDuration returns as an error."""


def go_int_option(token: str) -> int:
    """Options.FromMap: ``field.SetInt(int64(t))`` with t as encoding/json reads a number into an ``any``."""
    double = go_double(token)
    if not -(2.0**63) <= double < 2.0**63:
        raise GoError("differs between processors")
    return math.trunc(double)


def go_double(token: str) -> float:
    """strconv.ParseFloat(token, 64), which refuses what would be infinite."""
    double = float(token)
    if math.isinf(double):
        raise GoError("value out of range")
    return double


def go_int_field(token: str) -> int:
    """strconv.ParseInt(token, 10, 64), which knows neither points nor exponents."""
    if not token.removeprefix("-").isdigit():
        raise GoError("cannot unmarshal number into Go struct field of type int")
    if not -(2**63) <= int(token) < 2**63:
        raise GoError("cannot unmarshal number into Go struct field of type int")
    return int(token)


def go_duration(text: str) -> int:
    """time.ParseDuration, step by step as in Go 1.24, with 64 bits that do not overflow."""
    rest, negative = text, False
    if rest[:1] in ("-", "+"):
        negative, rest = rest[0] == "-", rest[1:]
    if rest == "0":
        return 0
    if rest == "":
        raise GoError("invalid duration")
    total = 0
    units = {"ns": 1, "us": 10**3, "\u00b5s": 10**3, "\u03bcs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9}
    units["h"] = 3600 * 10**9
    while rest:
        if not (rest[0] == "." or rest[0] in "0123456789"):
            raise GoError("invalid duration")
        before = rest
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        value, rest = int(digits or "0"), rest[len(digits) :]
        if value > 1 << 63:
            raise GoError("invalid duration")
        pre, post, fraction, scale = rest != before, False, 0, 1.0
        if rest[:1] == ".":
            rest = rest[1:]
            digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
            rest, post = rest[len(digits) :], bool(digits)
            for digit in digits:
                if fraction > ((1 << 63) - 1) // 10 or fraction * 10 + int(digit) > 1 << 63:
                    break
                fraction, scale = fraction * 10 + int(digit), scale * 10
        if not pre and not post:
            raise GoError("invalid duration")
        name = rest[: next((i for i, sign in enumerate(rest) if sign in ".0123456789"), len(rest))]
        rest = rest[len(name) :]
        if name not in units:
            raise GoError("missing or unknown unit")
        value *= units[name]
        if fraction:
            value += int(float(fraction) * (float(units[name]) / scale))
        total += value
        if total > 1 << 63:
            raise GoError("invalid duration")
    if negative:
        return -total
    if total > (1 << 63) - 1:
        raise GoError("invalid duration")
    return total


def go_keep_alive(token: str) -> int:
    """api.Duration.UnmarshalJSON: nanoseconds, -1 for its longest, which stands for whatever is negative."""
    value = json.loads(token)
    if isinstance(value, str):
        return max(go_duration(value), -1)
    double = go_double(token)
    if double < 0:
        return -1
    nanoseconds = go_int_option(token) * 10**9
    if nanoseconds >= 2**63:
        raise GoError("begins anew")
    return nanoseconds


NUMBERS = (
    st.integers().map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.from_regex(r"\A-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?\Z", alphabet="-+.eE0123456789")
)
DURATIONS = (
    st.from_regex(r"\A[-+]?([0-9]{0,20}\.?[0-9]{0,22}(ns|us|\u00b5s|\u03bcs|ms|s|m|h)){0,4}\Z")
    | st.from_regex(r"\A[-+]?[0-9.]{0,6}[nus\u00b5mh0-9.]{0,6}\Z")
    | st.text(max_size=8)
).filter(lambda text: len(text) <= 64)


@given(NUMBERS)
@example("0.5")
@example("-0.5")
@example("1e400")
@example("9223372036854775807")
@example("9223372036854775808")
@example("-9223372036854775808")
@example("-9223372036854775809")
@example("9007199254740993")
def test_options_that_are_ints_are_cut_off_as_go_does(token: str) -> None:
    try:
        expected: int | None = go_int_option(token)
    except GoError:
        expected = None
    value = json.loads(token)
    if isinstance(value, float) and math.isinf(value):
        return  # no policy that reads bodies lets it come so far
    try:
        found = read_cut(value)
    except ValueError:
        assert expected is None or expected == -(2**63)
    else:
        assert found == expected


@given(NUMBERS)
@example("1e3")
@example("1.0")
@example("0.5")
@example("-0")
@example("9223372036854775808")
def test_fields_that_are_ints_take_whole_numbers_only(token: str) -> None:
    try:
        expected: int | None = go_int_field(token)
    except GoError:
        expected = None
    try:
        found: int | None = read_whole(json.loads(token))
    except ValueError:
        found = None
    assert found == expected


@given(DURATIONS)
@example("-0.0000000001s")
@example("9223372036854775807ns")
@example("2562047h47m16.854775807s")
@example("2562047h47m16.854775808s")
@example("0.00000000000000000000000000000000001h")
@example("0.999999999999999999999s")
@example("9999999999999999999999h")
def test_durations_are_read_as_go_reads_them(text: str) -> None:
    try:
        expected: int | None = go_duration(text)
    except GoError:
        expected = None
    try:
        found: int | None = read_nanoseconds(text)
    except ValueError:
        found = None
    assert found == (expected if expected != -(2**63) else None)


@given(NUMBERS | DURATIONS.map(lambda text: json.dumps(text, ensure_ascii=False)))
@example("0.9")
@example("18446744074")
@example('"-0.5ns"')
def test_keep_alive_is_never_taken_for_anything_else(token: str) -> None:
    value = json.loads(token)
    if isinstance(value, float) and math.isinf(value):
        return
    try:
        found = read_lifetime(value)
    except ValueError:
        return  # refusing more than Ollama does is safe
    expected = go_keep_alive(token)
    assert (found == 0) == (expected == 0)
    assert (found == FOREVER) == (expected < 0)
    assert found == FOREVER or math.isclose(found, expected / 10**9, rel_tol=1e-12)


@given(st.floats())
def test_numbers_fit_into_a_float32(value: float) -> None:
    try:
        read_number(value)
    except ValueError:
        with pytest.raises((OverflowError, AssertionError)):
            assert math.isfinite(struct.unpack("f", struct.pack("f", value))[0])
    else:
        struct.pack("f", value)


@pytest.mark.parametrize("read", [read_number, read_cut, read_whole])
@pytest.mark.parametrize("value", [True, "1", None, [1], {"a": 1}])
def test_numbers_are_numbers(read: Any, value: Any) -> None:
    with pytest.raises(ValueError, match=r"must be a (whole )?number"):
        read(value)
    assert read(15) == 15


@pytest.mark.parametrize("value", [0, 1, "true", None, []])
def test_flags_are_true_or_false(value: Any) -> None:
    with pytest.raises(ValueError, match="true or false"):
        read_flag(value)
    assert read_flag(False) is False


def test_texts() -> None:
    assert read_texts(["a"]) == "a" == read_text_or_texts("a")
    assert read_texts(["a", "b"]) == ("a", "b") == read_text_or_texts(["a", "b"])
    assert (write_texts("a"), write_texts(("a", "b"))) == (["a"], ["a", "b"])
    for value in ("a", None, [1], {"a": 1}):
        with pytest.raises(ValueError, match="list of texts"):
            read_texts(value)
