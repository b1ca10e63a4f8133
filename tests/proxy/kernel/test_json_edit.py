"""proxy/kernel/json_edit.py; what an edit means is tested with what reads it, in test_jsontext.py."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel.json_edit import Span, Text, Without, edit, merged, without_members
from tests.support.cost import assert_flat


def members(text: bytes) -> dict[str, Span]:
    return {json.loads(key): span for key, span in Text(text).members(0)}


def test_members_are_where_they_stand() -> None:
    text = b'{ "a" : [1, {"b":2}], "c\\u0064":"}"}'
    found = {key: (text[span.key : span.start], text[span.start : span.end]) for key, span in members(text).items()}
    assert found == {"a": (b'"a" : ', b'[1, {"b":2}]'), "cd": (b'"c\\u0064":', b'"}"')}


KEYS = st.text('ab"\\ä{}[]:, ', max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.floats(allow_nan=False, allow_infinity=False) | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(KEYS, JSON, max_size=5), st.sampled_from(["", " ", "\r\n\t"]), st.booleans())
def test_members_of_any_object(document: dict[str, Any], pad: str, ascii: bool) -> None:
    text = (
        f"{{{pad}{json.dumps(document, ensure_ascii=ascii, separators=(f'{pad},{pad}', f'{pad}:{pad}'))[1:-1]}{pad}}}"
    )
    raw = text.encode()
    spans = members(raw)
    assert {key: json.loads(raw[span.start : span.end]) for key, span in spans.items()} == document
    assert all(json.loads(raw[span.key : raw.rindex(b":", 0, span.start)]) == key for key, span in spans.items())


def test_a_patch_goes_into_objects_and_replaces_all_else() -> None:
    document = {"options": {"num_ctx": 1, "seed": 2}, "model": "a", "stop": ["x"]}
    patch = {"options": {"num_ctx": 8}, "stop": [], "new": {"x": 1}}
    assert merged(document, patch) == {
        "options": {"num_ctx": 8, "seed": 2}, "model": "a", "stop": [], "new": {"x": 1}
    }  # fmt: skip


@given(st.lists(JSON, max_size=6), st.sets(st.integers(0, 5)), st.sampled_from(["", " ", "\n\t"]), st.booleans())
def test_elements_are_left_out_of_a_list(elements: list[Any], places: set[int], pad: str, behind: bool) -> None:
    written = [json.dumps(element) for element in elements]
    places = {place for place in places if place < len(elements)}
    rest = ',"m":2' if behind else ""
    text = f'{{"n":1,"a":[{pad}{f"{pad},{pad}".join(written)}{pad}]{pad}{rest}}}'
    patch = {"a": Without(places)}
    edited = edit(text.encode(), patch)
    kept = [element for place, element in enumerate(elements) if place not in places]
    assert json.loads(edited) == merged(json.loads(text), patch) == json.loads(text) | {"a": kept}
    assert all(json.dumps(element).encode() in edited for element in kept)


SHAPES: dict[str, Callable[[int], bytes]] = {
    "members": lambda size: b"{" + b",".join(b'"%05d":1' % number for number in range(size // 10)) + b"}",
    "lists": lambda size: b'{"a":[' + b",".join([b"[]"] * (size // 3)) + b'],"n":1}',
    "nested": lambda size: b'{"a":[' + b",".join([b"[" * 200 + b"]" * 200] * (size // 401)) + b'],"n":1}',
    "strings": lambda size: b'{"a":[' + b",".join([b'"]"'] * (size // 4)) + b'],"n":1}',
    "escapes": lambda size: b'{"a":"' + b'\\"' * (size // 2) + b'","n":1}',
    "white space": lambda size: b'{"a":1' + b" " * size + b',"n":1}',
    "a number": lambda size: b'{"a":0.' + b"1" * size + b',"n":1}',
    "images": lambda size: b'{"a":[' + b",".join([b'"' + b"A" * 70_000 + b'"'] * (size // 70_000 + 1)) + b'],"n":1}',
}


@pytest.mark.parametrize("make", SHAPES.values(), ids=SHAPES)
def test_a_byte_costs_the_same_in_a_longer_text(make: Callable[[int], bytes]) -> None:
    assert_flat(lambda raw: edit(raw, {"n": 2, "options": {"num_ctx": 1}}), make, 64 * 1024)


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        (b'{"id":1,"a":2}', b'{"a":2}'),
        (b'{"a":2, "id":"x"}', b'{"a":2}'),
        (b'{"id":1}', b"{}"),
        (b' { "a":1 , "id":{"q":[1]} , "b":[2,{"id":3}] } ', b' { "a":1 , "b":[2,{"id":3}] } '),
        (b'{"a":1,"id":1,"type":2}', b'{"a":1}'),
        (b'{"id":1,"type":2,"a":3}', b'{"a":3}'),
        (b'{"id":1,"a":3,"type":2}', b'{"a":3}'),
        (b'{"\\u0069d":4,"b":"id","id":3,"c":2.50}', b'{"b":"id","c":2.50}'),
        (b'{"a":1}', b'{"a":1}'),
        (b"{}", b"{}"),
    ],
)
def test_members_are_left_out_and_every_other_byte_stays(raw: bytes, left: bytes) -> None:
    assert without_members(raw, ("id", "type")) == left


def test_a_member_behind_an_image_is_left_out() -> None:
    image = b"A" * 20_000
    raw = b'{"images":["%b"],"id":"a","b":"%b","type":1}' % (image, image)
    assert without_members(raw, ("id", "type")) == b'{"images":["%b"],"b":"%b"}' % (image, image)
