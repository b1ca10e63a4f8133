"""proxy/kernel/body_json.py."""

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.kernel import body_json
from proxy.kernel.body_json import parse, read
from proxy.kernel.errors import Refused
from proxy.kernel.json_bounds import CONTAINERS, VALUES
from proxy.kernel.json_bounds import KEYS as MOST_KEYS
from proxy.kernel.json_edit import edit, merged
from proxy.simulator import go_json
from tests.support.cost import assert_flat

IMAGE = b64encode(bytes(range(256)) * 1024)


def refusal(raw: bytes) -> str:
    with pytest.raises(Refused) as caught:
        parse(raw)
    assert caught.value.status == 400
    return caught.value.message


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "missing request body"),
        (b" \n", "not plain JSON"),
        (b"\xef\xbb\xbf{}", "BOM"),
        ('{"model":"x"}'.encode("utf-16"), "UTF-8"),
        ('{"model":"x"}'.encode("utf-16-le"), "not plain JSON"),
        ('{"model":"x"}'.encode("utf-32"), "UTF-8"),
        (b'{"model":"\xff"}', "is not UTF-8 at byte 10; send the body as UTF-8"),
        ('{"prompt":"Grüße"}'.encode("latin-1"), "is not UTF-8 at byte 13; send the body as UTF-8"),  # PowerShell 5
        ('{"model":"x"}'.encode("utf-16-le"), "at byte 1; send the body as UTF-8"),
        (b'{"a":"' + IMAGE + b'","b":"\xe4"}', f"is not UTF-8 at byte {6 + len(IMAGE) + 7}; send"),
        (b'{"model":"\xed\xa0\x80"}', "UTF-8"),
        (b'{"model":"\\ud800"}', "not plain JSON"),
        (b'{"model":"a\x00b"}', "control character"),
        (b'{"model":"x"} {}', "after document"),
        (b'{"model":"x"},', "after document"),
        (b'{"model":"x"}\x00', "after document"),
        (b'{"model":"x",}', "not plain JSON"),
        (b"{'model':'x'}", "not plain JSON"),
        (b'{"model":"x" /* */}', "not plain JSON"),
        (b'{"n":NaN}', "not plain JSON"),
        (b'{"n":Infinity}', "not plain JSON"),
        (b'{"n":-Infinity}', "not plain JSON"),
        (b'{"n":01}', "not plain JSON"),
        (b'{"n":+1}', "not plain JSON"),
        (b'{"n":1e999}', "infinity"),
        (b"[]", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"model":"a","model":"b"}', '"model" stands twice'),
        (b'{"model":"a","mod\\u0065l":"b"}', '"model" stands twice'),
        (b'{"model":"a", "model":null}', '"model" stands twice'),
        (b'{"x":{"y":1,"y":1}}', '"y" stands twice'),
        (b'{"options":{"num_ctx":1,"num_ctx":2}}', '"num_ctx" stands twice'),
        (b'{"options":{},"options":{}}', '"options" stands twice'),
        (b'{"Model":"a"}', 'must be written "model"'),
        (b'{"model":"a","MODEL":"b"}', '"MODEL" of the request body must be written "model"'),
        ('{"\u017ftream":true}'.encode(), r'"\u017ftream" of the request body must be written "stream"'),
        ('{"in\u017fecure":true}'.encode(), 'must be written "insecure"'),
        ('{"\u212aeep_alive":"1h"}'.encode(), 'must be written "keep_alive"'),
        (b'{"\\u212aeep_alive":"1h"}', 'must be written "keep_alive"'),
        (b'{"options":{"Num_Ctx":1}}', 'must be written "num_ctx"'),
        (b'{"reasoning":{"Effort":"high"}}', 'must be written "effort"'),
        (b'{"thinking":{"TYPE":"enabled"}}', 'must be written "type"'),
        (b'{"output_config":{"Effort":"high"}}', 'must be written "effort"'),
        (b'{"REMOTE_HOST":"x"}', 'must be written "remote_host"'),
    ],
)
def test_says_what_is_wrong(raw: bytes, message: str) -> None:
    assert message in refusal(raw)


@pytest.mark.parametrize(
    ("raw", "position"),
    [
        (b'{"a":1,}', 6),
        ('{"ä":1,}'.encode(), 7),
        (b'{"a":"' + IMAGE + b'","b":nope}', 6 + len(IMAGE) + 6),
    ],
)
def test_says_where(raw: bytes, position: int) -> None:
    assert refusal(raw).endswith(f"at byte {position}")


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"n":' + b"1" * 1_000_000 + b"}",
        b'{"n":1' + b"0" * 400 + b"}",
        b'{"model":"x","n":[' + b"1," * (VALUES + 1) + b"1]}",
        b"{" + b",".join(b'"a":1' for _ in range(VALUES + 2)) + b"}",
        b'{"model":"x","n":[' + b"[]," * CONTAINERS + b"1]}",
        b'{"model":"x","n":[' + b"{}," * CONTAINERS + b"1]}",
        b'{"model":"x","n":[' + b'{"a":[],"b":{}},' * CONTAINERS + b"1]}",
        b"{" + b",".join(b'"%d":1' % number for number in range(MOST_KEYS + 1)) + b"}",
    ],
)
def test_evil_shapes_are_refused(raw: bytes) -> None:
    refusal(raw)


@pytest.mark.parametrize("pad", [b"", b" "])
@pytest.mark.parametrize("depth", [1, 252, 253, 254, 255, 300, 990, 1022, 1023, 1030])
def test_depth_ends_in_a_refusal_and_nothing_worse(depth: int, pad: bytes) -> None:
    raw = b'{"a":' + pad + b"[" * depth + b"]" * depth + b',"n":1}'
    if depth > 253:
        refusal(raw)
    else:
        assert orjson.dumps(parse(raw)) == raw.replace(b" ", b"")
        assert edit(raw, {"n": 2}) == raw.replace(b'"n":1', b'"n":2')


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"x"}\n',
        b' \r\n\t{ "model" : "x" } ',
        b'{"model":"x","n":0.' + b"3" * 1_000_000 + b"}",
        '{"model":"x","schlüssel":"\u017f","Foo":1,"foo":2}'.encode(),
        b'{"model":"x","tools":[{"Name":"a","NAME":"b"}]}',
        b'{"model":"x","prompt":"\\ud83d\\ude00 \xf0\x9f\x98\x80"}',
        b'{"options":null,"reasoning":"low","thinking":[]}',
        b'{"a":' + b"[" * 250 + b"]" * 250 + b"}",
    ],
)
def test_accepts_what_everybody_reads_alike(raw: bytes) -> None:
    assert parse(raw) == json.loads(raw) == read(raw)[1]


def test_read_takes_what_parse_finds_ambiguous() -> None:
    assert read(b'{"model":"a","model":"b","Model":"c"}')[1] == {"model": "b", "Model": "c"}
    with pytest.raises(Refused):
        read(b"[]")


NESTED = st.text(max_size=6).filter(
    lambda key: key == body_json.fold(key) or body_json.fold(key) not in body_json.CONTROL
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NESTED, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
KEYS = st.sampled_from(["model", "options", "keep_alive", "x", "ä", 'q"\\', "num_ctx"]) | st.text(max_size=4).filter(
    lambda key: key == body_json.fold(key)
)
OBJECTS = st.dictionaries(KEYS, JSON, max_size=6)


def texts(document: Any, compact: bool, plain: bool, pad: str) -> bytes:
    """Write `document` in one of the ways clients do."""
    if compact and not plain:
        return orjson.dumps(document)
    separators = (",", ":") if compact else (f"{pad},{pad}", f"{pad}:{pad}")
    return f"{pad}{json.dumps(document, ensure_ascii=plain, separators=separators)}{pad}".encode()


WRITTEN = st.builds(texts, OBJECTS, st.booleans(), st.booleans(), st.sampled_from(["", " ", "\r\n\t"]))


@given(WRITTEN)
def test_reads_every_document_as_json_does(raw: bytes) -> None:
    assert parse(raw) == json.loads(raw)


@given(st.lists(st.tuples(KEYS | st.sampled_from(["Model", "MODEL", "\u212aeep_alive"]), JSON), max_size=5))
@example([("model", "a"), ("model", None)])
def test_what_is_accepted_is_what_go_reads(pairs: list[tuple[str, Any]]) -> None:
    raw = "{" + ",".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in pairs) + "}"
    shape = {"model": go_json.ANY, "keep_alive": go_json.ANY, "options": go_json.ANY}
    try:
        document = parse(raw.encode())
    except Refused:
        return
    assert go_json.decode(raw.encode(), shape) == {name: document.get(name) for name in shape}


PATCHES = st.dictionaries(
    st.sampled_from(["model", "options", "keep_alive", "new", "a\nb"]),
    st.sampled_from(["llama3", 7, -1.5, True, "ä\n"])
    | st.dictionaries(st.sampled_from(["num_ctx", "x"]), st.integers(-9, 9) | st.text(max_size=3), max_size=3),
    max_size=3,
)


@given(WRITTEN, PATCHES)
def test_an_edit_reads_as_meant(raw: bytes, patch: dict[str, Any]) -> None:
    edited = edit(raw, patch)
    assert json.loads(edited) == parse(edited) == merged(parse(raw), patch)


@given(OBJECTS, st.sampled_from(["", " ", "\n\t"]), st.integers(0, 9))
def test_an_edit_touches_nothing_else(document: dict[str, Any], pad: str, value: int) -> None:
    raw = texts({**document, "keep_alive": "5m", "options": {"num_ctx": 1, "x": "5m"}}, not pad, True, pad)
    num_ctx = f'"num_ctx"{pad}:{pad}'.encode()
    before, _, after = raw.partition(num_ctx + b"1")
    if after.count(num_ctx) or before.count(num_ctx):
        return  # the document has such a member itself
    assert edit(raw, {"options": {"num_ctx": value}}) == before + num_ctx + b"%d" % value + after


@pytest.mark.parametrize(
    ("raw", "patch", "expected"),
    [
        (b'{"model":"a"}', {"model": "b"}, b'{"model":"b"}'),
        (b'{"mod\\u0065l" : "\\u0061" }', {"model": "b"}, b'{"mod\\u0065l" : "b" }'),
        (b"{}", {"keep_alive": 0}, b'{"keep_alive":0}'),
        (b"{ }", {"keep_alive": 0}, b'{"keep_alive":0 }'),
        (b'{"a":1}', {"b": 2, "c": "\xe9"}, '{"b":2,"c":"é","a":1}'.encode()),
        (b'{"a":1}', {"options": {"num_ctx": 8}}, b'{"options":{"num_ctx":8},"a":1}'),
        (b'{"options":null}', {"options": {"num_ctx": 8}}, b'{"options":{"num_ctx":8}}'),
        (b'{"options":{}}', {"options": {"num_ctx": 8}}, b'{"options":{"num_ctx":8}}'),
        (b'{"options": {"a":[{}]}}', {"options": {"b": 8}}, b'{"options": {"b":8,"a":[{}]}}'),
        (b'{"k":"}{\\"","options":{"n":1e3 }}', {"options": {"n": 8}}, b'{"k":"}{\\"","options":{"n":8 }}'),
        ('{"ä":"ö","n":1}'.encode(), {"n": 2}, '{"ä":"ö","n":2}'.encode()),
        (b'{"n":1}', {}, b'{"n":1}'),
    ],
)
def test_edits(raw: bytes, patch: dict[str, Any], expected: bytes) -> None:
    assert edit(raw, patch) == expected


@given(st.lists(st.tuples(KEYS, JSON), max_size=6), st.booleans())
def test_keys_that_stand_twice_are_found_in_texts_of_any_length(pairs: list[tuple[str, Any]], long: bool) -> None:
    raw = ("{" + ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in pairs) + "}").encode()
    twice = len(dict(pairs)) < len(pairs)
    with pytest.MonkeyPatch.context() as small:
        small.setattr(body_json, "_QUICK", 0 if long else 2**20)
        if twice:
            assert "stands twice" in refusal(raw)
        else:
            assert parse(raw) == json.loads(raw)


SHAPES: dict[str, Callable[[int], bytes]] = {
    "lists": lambda size: b'{"a":[' + b",".join([b"[]"] * (size // 3)) + b"]}",
    "keys": lambda size: b"{" + b", ".join(b'"%05d":1' % number for number in range(size // 11)) + b"}",
    "one key": lambda size: b"{" + b", ".join([b'"a":1'] * (size // 7)) + b"}",
    "objects": lambda size: b'{"a": [' + b",".join([b'{"a":1}'] * (size // 8)) + b"]}",
    "numbers": lambda size: b'{"a": [' + b",".join([b"1e5"] * (size // 4)) + b"]}",
    "words": lambda size: b'{"a": "' + b"word " * (size // 5) + b'"}',
    "escapes": lambda size: b'{"a": "' + b"\\n" * (size // 2) + b'"}',
    "white space": lambda size: b'{"a":1' + b" " * size + b"}",
    "brackets": lambda size: b"[" * size,
    "quotes": lambda size: b'{"a":[' + b",".join([b'""'] * (size // 3)) + b"]}",
    "strides": lambda size: b'{"a":[' + b",".join([b'"' + b"A" * 65_530 + b'"', b'" x"'] * (size // 65_540)) + b"]}",
    "images": lambda size: b'{"a":[' + b",".join([b'"' + b"A" * 65_600 + b'"'] * (size // 65_600)) + b"]}",
    "no end": lambda size: b'{"a":[' + b",".join([b"1"] * (size // 2)) + b"x]}",
    "latin-1": lambda size: b'{"a":"' + b"\xe4 " * (size // 2) + b'"}',
}


@pytest.mark.parametrize("make", SHAPES.values(), ids=SHAPES)
def test_a_byte_costs_the_same_in_a_longer_body(make: Callable[[int], bytes]) -> None:
    assert_flat(parse, make, 64 * 1024)
