"""proxy/kernel/json_bounds.py."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel import json_bounds
from proxy.kernel.errors import Refused
from proxy.kernel.json_bounds import (
    CONTAINERS,
    DEPTH,
    KEYS,
    PER_BYTE,
    SPARE,
    TEXT,
    VALUES,
    check_counts,
    extent,
    loads,
    outside_strings,
    without_escapes,
)
from tests.support.cost import assert_flat


def a_list(item: bytes, count: int) -> bytes:
    """A list of so many values, in an object, so that a list and an object are there besides."""
    return b'{"":[' + b",".join([item] * count) + b"]}"


def refusal(text: bytes, sent: int | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        check_counts(text, len(text) if sent is None else sent)
    return caught.value


@pytest.mark.parametrize(
    ("item", "most", "bound"),
    [
        (b"[]", CONTAINERS - 2, f"{CONTAINERS} lists and objects"),
        (b"{}", CONTAINERS - 2, f"{CONTAINERS} lists and objects"),
        (b"[[[[]]]]", CONTAINERS // 4 - 1, f"{CONTAINERS} lists and objects"),
        (b'{"a":1,"b":2,"c":3}', KEYS // 3, f"{KEYS} keys"),
        (b"1", VALUES - 1, f"{VALUES} values"),
        (b'"[[[{{{:::,,,"', VALUES - 1, f"{VALUES} values"),
        (b'"\\\\\\""', VALUES - 1, f"{VALUES} values"),
    ],
)
def test_as_much_as_a_bound_and_no_more(item: bytes, most: int, bound: str) -> None:
    check_counts(a_list(item, most), 10**9)
    refused = refusal(a_list(item, most + 1), 10**9)
    assert (refused.status, refused.message) == (400, f"the request body holds more than {bound}; send less at once")


def test_signs_in_strings_are_no_structure() -> None:
    check_counts(b'{"prompt":"' + b'[{:,\\"' * (2 * VALUES) + b'"}', 10**9)


def test_a_text_that_no_model_reads() -> None:
    check_counts(b" " * TEXT, TEXT)
    assert refusal(b" " * (TEXT + 1)).status == 413


@pytest.mark.parametrize("sent", [0, 100])
def test_what_was_sent_small_may_not_hold_much(sent: int) -> None:
    most = SPARE + PER_BYTE * sent
    check_counts(b"[" * most, sent)
    check_counts(a_list(b"1", most - 1), sent)
    assert f"more than {most} lists" in refusal(b"[" * (most + 1), sent).message
    assert f"more than {most} values" in refusal(a_list(b"1", most), sent).message


def test_what_a_backend_says_is_bounded_too() -> None:
    assert loads(b'{"a":[1]}') == {"a": [1]}
    for text in (b"{", a_list(b"[]", CONTAINERS)):
        with pytest.raises(ValueError, match=r"more than|unexpected"):
            loads(text)


# Against a reader that takes one character at a time


def plainly(text: str) -> str:
    """What stands outside of strings."""
    out, inside, escaped = "", False, False
    for char in text:
        if not inside:
            inside = char == '"'
            out += "" if inside else char
        elif escaped:
            escaped = False
        else:
            inside, escaped = char != '"', char == "\\"
    return out


JSON = st.recursive(
    st.none() | st.integers(-99, 99) | st.text('a"\\\n{[:,', max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('a"\\{[:,', max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.integers(2, 9))
def test_outside_of_strings_however_it_is_cut(document: Any, piece: int) -> None:
    text = json.dumps(document)
    with pytest.MonkeyPatch.context() as small:
        small.setattr(json_bounds, "_PIECE", piece)
        assert b"".join(outside_strings(text.encode())).decode() == plainly(text)
        flat = without_escapes(text.encode()).decode()
    assert len(flat) == len(text)
    assert [at for at, char in enumerate(flat) if char == '"'] == quotes_that_bound(text)


def quotes_that_bound(text: str) -> list[int]:
    return [at for at, char in enumerate(text) if char == '"' and (at - len(text[:at].rstrip("\\"))) % 2 == 0]


@given(JSON, st.integers(1, 9))
def test_counts_are_exact(document: Any, bound: int) -> None:
    bare = plainly(text := json.dumps({"": document}))
    containers, keys = bare.count("[") + bare.count("{"), bare.count(":")
    with pytest.MonkeyPatch.context() as small:
        for name in ("CONTAINERS", "KEYS", "VALUES"):
            small.setattr(json_bounds, name, bound)
        fits = max(containers, keys, containers + bare.count(",")) <= bound
        if fits:
            check_counts(text.encode(), len(text))
        else:
            assert f"more than {bound}" in refusal(text.encode()).message


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_the_extent_of_a_document(document: dict[str, Any]) -> None:
    def depth(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    assert extent(document) == (depth(document), plainly(json.dumps(document)).count(":"))


def test_the_extent_of_what_is_nested_deeper_than_python_calls() -> None:
    document: dict[str, Any] = {}
    for _ in range(20 * DEPTH):
        document = {"a": document}
    assert extent(document) == (20 * DEPTH + 1, 20 * DEPTH)
    while document:
        document = document.pop("a")  # to be freed level by level


SHAPES: dict[str, Callable[[int], bytes]] = {
    "escapes": lambda size: b'{"a":"' + b"\\\\" * (size // 2) + b'"}',
    "escaped quotes": lambda size: b'{"a":"' + b'[\\"' * (size // 3) + b'"}',
    "a string without end": lambda size: b'{"a":"' + b'\\"' * (size // 2),
    "strings": lambda size: a_list(b'":"', size // 4),
    "lists": lambda size: a_list(b"[]", size // 3),
    "a string of signs": lambda size: b'{"a":"' + b"[" * size + b'"}',
}


@pytest.mark.parametrize("make", SHAPES.values(), ids=SHAPES)
def test_a_byte_costs_the_same_in_a_longer_text(make: Callable[[int], bytes]) -> None:
    assert_flat(lambda text: [*outside_strings(text)], make, 64 * 1024)
    assert_flat(without_escapes, make, 64 * 1024)
