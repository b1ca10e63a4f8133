"""One range of bytes, as RFC 9110 writes it."""

import pytest

from proxy.deferred.byte_range import FARTHEST, ByteRange, is_still, range_of


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("bytes=0-", ByteRange(0)),
        ("bytes=5-9", ByteRange(5, 9)),
        ("bytes=-7", ByteRange(suffix=7)),
        ("Bytes = 5 - 9", ByteRange(5, 9)),
        ("bytes=9-5", None),
        ("bytes=-", None),
        ("bytes=1-2,4-5", None),
        ("lines=1-2", None),
        ("bytes=a-", None),
        ("bytes=" + "9" * 5000 + "-", ByteRange(FARTHEST)),
        ("bytes=0-" + "9" * 30, ByteRange(0, FARTHEST)),
        ("bytes=-" + "9" * 30, ByteRange(suffix=FARTHEST)),
        ("bytes=" + "0" * 30 + "7-8", ByteRange(7, 8)),
        ("bytes=, 5-9 ,", ByteRange(5, 9)),
        ("bytes=,", None),
        ("bytes", None),
        ("bytes=٣-", None),
    ],
)
def test_what_is_read(field: str, expected: ByteRange | None) -> None:
    assert range_of({"headers": [(b"range", field.encode())]}) == expected


def test_none_and_two_are_none() -> None:
    assert range_of({"headers": []}) is None
    assert range_of({"headers": [(b"range", b"bytes=0-1"), (b"range", b"bytes=2-3")]}) is None


@pytest.mark.parametrize(
    ("wanted", "resolved"),
    [
        (ByteRange(0), (0, None)),
        (ByteRange(5, 9), (5, 10)),
        (ByteRange(suffix=7), (93, None)),
        (ByteRange(suffix=700), (0, None)),
    ],
)
def test_of_a_hundred_bytes(wanted: ByteRange, resolved: tuple[int, int | None]) -> None:
    assert wanted.resolved(100) == resolved


@pytest.mark.parametrize(
    ("fields", "still"),
    [
        ([], True),
        ([b'"a-1"'], True),
        ([b' "a-1" '], True),
        ([b'"a-2"'], False),
        ([b'W/"a-1"'], False),
        ([b"Sat, 29 Oct 1994 19:43:31 GMT"], False),
        ([b'"a-1"', b'"a-2"'], False),
    ],
)
def test_of_which_answer_a_part_is_wanted(fields: list[bytes], still: bool) -> None:
    assert is_still({"headers": [(b"if-range", value) for value in fields]}, b'"a-1"') is still
