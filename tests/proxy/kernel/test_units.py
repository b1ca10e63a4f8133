import json
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from proxy.kernel.units import (
    ConfigFile,
    ConfigPath,
    Context,
    Duration,
    DurationOrZero,
    Least,
    Mistake,
    Percent,
    PolicyName,
    Rate,
    Secret,
    Size,
    SizeOrZero,
    format_duration,
    format_percent,
    format_size,
    parse_duration,
    parse_percent,
    parse_size,
    suggest,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("0s", 0.0), ("30s", 30.0), ("1.5s", 1.5), ("10m", 600.0), ("1h", 3600.0), ("7d", 604800.0)],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value",
    ["", "s", "10", "10 s", "-1s", "+1s", "1e3s", "10sec", "10S", ".5s", "5.s", "1h30m", "\u0967s", "1s\n", None],
)
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(Mistake, match="expected a duration like"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0B", 0), ("512B", 512), ("64KiB", 65536), ("10MB", 10**7), ("1kB", 1000), ("1KB", 1000), ("1.5GiB", 3 * 2**29)],
)
def test_sizes_are_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("value", ["", "10", "10 MB", "10mb", "-1B", "1.5B", "0.3KiB", "1Ki", "9M", None, False, []])
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(Mistake, match="expected a size like"):
        parse_size(value)


@pytest.mark.parametrize(("text", "share"), [("20%", 0.2), ("0%", 0.0), ("100%", 1.0), ("12.5%", 0.125), ("7%", 0.07)])
def test_shares_are_from_0_to_1(text: str, share: float) -> None:
    assert parse_percent(text) == share


@pytest.mark.parametrize("value", ["", "20", "20 %", "101%", "-1%", "%", "1000%", None, True])
def test_what_is_no_share(value: object) -> None:
    with pytest.raises(Mistake, match="expected a share"):
        parse_percent(value)


@pytest.mark.parametrize(
    ("text", "amount", "per"),
    [
        ("60/minute", 60, 60.0),
        ("10/second", 10, 1.0),
        ("1000/day", 1000, 86400.0),
        ("20000000/day", 20_000_000, 86400.0),
        ("5/10s", 5, 10.0),
        ("5/1.5h", 5, 5400.0),
        ("1/month", 1, 30 * 86400.0),
    ],
)
def test_rates(text: str, amount: int, per: float) -> None:
    rate = Rate.parse(text)
    assert (rate.amount, rate.per, str(rate)) == (amount, per, text)


@pytest.mark.parametrize("value", ["", "60", "0/minute", "60/min", "60 / minute", "-1/day", "5/0s", "1.5/day", None])
def test_what_is_no_rate(value: object) -> None:
    with pytest.raises(Mistake, match="expected a rate like 60/minute"):
        Rate.parse(value)


def test_the_calendars_day_is_not_any_24_hours() -> None:
    assert (Rate.parse("1/day").calendar, Rate.parse("1/month").calendar) == ("day", "month")
    assert (Rate.parse("1/24h").calendar, Rate.parse("1/minute").calendar) == (None, None)
    assert Rate.parse("1/day") != Rate.parse("1/24h")
    assert Rate.parse("1/day") == Rate.parse("1/day")


@pytest.mark.parametrize(
    ("parse", "value", "hint"),
    [
        (parse_duration, 30, "write 30s for seconds"),
        (parse_duration, 2.5, "write 2.5s for seconds"),
        (parse_duration, True, None),
        (parse_size, 65536, "write 65536B for bytes"),
        (parse_percent, 0.2, "write 20%"),
        (parse_percent, 20, "write 20%"),
        (parse_percent, 500, None),
        (Rate.parse, 60, "write 60/minute, or another period"),
        (Rate.parse, "60 per minute", "write 60/minute"),
        (Rate.parse, "60/minutes", "write 60/minute"),
        (Rate.parse, "60 a day", "write 60/day"),
        (Rate.parse, "60 per fortnight", None),
    ],
)
def test_hints_say_what_to_write(parse: Any, value: object, hint: str | None) -> None:
    with pytest.raises(Mistake) as caught:
        parse(value)
    assert caught.value.hint == hint


@given(st.integers(min_value=0, max_value=10**12))
def test_a_duration_survives_being_shown(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(min_value=0, max_value=10**15 - 1))
def test_a_size_survives_being_shown(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(min_value=0, max_value=10_000))
def test_a_share_survives_being_shown(hundredths: int) -> None:
    share = hundredths / 10_000
    assert parse_percent(format_percent(share)) == share


@given(
    st.integers(min_value=1, max_value=10**15 - 1), st.sampled_from(["second", "minute", "hour", "day", "10s", "250ms"])
)
def test_a_rate_is_what_it_says(amount: int, period: str) -> None:
    rate = Rate.parse(f"{amount}/{period}")
    assert rate.amount == amount
    assert rate.per > 0
    assert Rate.parse(str(rate)) == rate


@given(st.text() | st.integers() | st.floats() | st.none() | st.booleans() | st.lists(st.text()))
def test_nothing_else_is_raised(value: object) -> None:
    for parse in (parse_duration, parse_size, parse_percent, Rate.parse):
        try:
            parse(value)
        except Mistake:
            continue


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0s"), (0.25, "250ms"), (30.0, "30s"), (90.0, "90s"), (600.0, "10m"), (86400.0, "1d")]
)
def test_durations_are_shown_in_their_largest_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0B"), (65536, "64KiB"), (10**7, "10MB"), (1001, "1001B")])
def test_sizes_are_shown_shortest(size: int, text: str) -> None:
    assert format_size(size) == text


def test_suggestions() -> None:
    assert suggest("rate-limit", ["rate_limit", "retry"]) == "did you mean 'rate_limit'?"
    assert suggest("Queu", ["queue"]) == "did you mean 'queue'?"
    assert suggest("zzz", ["queue"]) is None
    assert suggest("a", []) is None


class Options(BaseModel):
    wait: Duration = 30.0
    bound: Annotated[Size, Field(ge=1024)] = 2048
    share: Percent = 0.5
    rate: Rate | None = None
    secret: Secret = Secret("")
    path: ConfigPath = Path("x")
    file: ConfigFile | None = None
    policy: PolicyName | None = None


def checked(data: dict[str, object], context: Context | None = None) -> Options:
    return Options.model_validate_json(json.dumps(data), strict=True, context=context)


def test_they_are_annotations_that_pydantic_reads_and_writes() -> None:
    options = checked({"wait": "1m", "bound": "64KiB", "share": "20%", "rate": "60/minute", "secret": "s3cret"})
    assert (options.wait, options.bound, options.share) == (60.0, 65536, 0.2)
    assert options.rate == Rate(60, 60.0, "60/minute")
    assert options.model_dump(mode="json", exclude={"path", "file", "policy", "secret"}) == {
        "wait": "1m",
        "bound": "64KiB",
        "share": "20%",
        "rate": "60/minute",
    }
    assert "s3cret" not in f"{options!r} {options} {options.model_dump_json()}"


def test_constraints_hold_for_the_number() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1024"):
        checked({"bound": "1023B"})


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (Duration, "1ms", 0.001),
        (Duration, "0s", None),
        (Duration, "0.0ms", None),
        (Duration, "0.1ms", None),
        (Duration, "36500d", 36500 * 86400.0),
        (Duration, "36501d", None),
        (Duration, 0, None),
        (DurationOrZero, "0s", 0.0),
        (DurationOrZero, "0ms", 0.0),
        (DurationOrZero, "1s", 1.0),
        (DurationOrZero, "0.1ms", None),
        (DurationOrZero, "36501d", None),
        (DurationOrZero, 0, None),
        (Size, "1B", 1),
        (Size, "0B", None),
        (Size, "0KiB", None),
        (SizeOrZero, "0B", 0),
        (Annotated[Duration, Least("50ms")], "50ms", 0.05),
        (Annotated[Duration, Least("50ms")], "49ms", None),
        (Annotated[Size, Least("1KiB")], "1KiB", 1024),
        (Annotated[Size, Least("1KiB")], "1023B", None),
    ],
)
def test_nothing_and_next_to_nothing(annotation: Any, text: object, value: float | None) -> None:
    adapter = TypeAdapter[Any](annotation)
    if value is None:
        with pytest.raises(ValidationError, match="expected"):
            adapter.validate_json(json.dumps(text))
    else:
        assert adapter.validate_json(json.dumps(text)) == value
        assert adapter.dump_json(value)


def test_relative_paths_start_in_the_folder_of_the_policy_file(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    context = Context(folder=tmp_path)
    assert checked({"path": "keys.yaml"}, context).path == tmp_path / "keys.yaml"
    assert checked({"path": "/keys.yaml"}, context).path == Path("/keys.yaml")
    assert checked({"path": "~/keys.yaml"}, context).path == Path.home() / "keys.yaml"
    assert checked({"file": "there"}, context).file == tmp_path / "there"
    for missing in ("missing", ".", "", "a\0b"):
        with pytest.raises(ValidationError):
            checked({"file": missing}, context)


def test_a_policy_must_be_one_of_those_that_are_known() -> None:
    context = Context(policies=frozenset({"guests"}))
    assert checked({"policy": "guests"}, context).policy == "guests"
    assert checked({"policy": "anything"}).policy == "anything"
    with pytest.raises(ValidationError) as caught:
        checked({"policy": "gests"}, context)
    error = caught.value.errors()[0]["ctx"]["error"]
    assert (error.message, error.hint) == ("there is no such policy under policies", "did you mean 'guests'?")


@pytest.mark.parametrize("annotation", [Duration, Size, Percent, Rate, ConfigPath, PolicyName])
def test_each_says_in_json_schema_what_may_be_written(annotation: Any) -> None:
    schema = TypeAdapter(annotation).json_schema()
    assert schema["type"] == "string"
    assert schema["title"].startswith("a ")


def test_what_a_resolved_value_stands_for_is_in_no_print_of_the_context() -> None:
    assert "s3cret" not in repr(Context(shown={"s3cret": "${X}"}))
