"""proxy/jsontext.py."""

import json
from base64 import b64encode
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy import jsontext
from proxy.errors import Refused
from proxy.jsontext import BLOB, BLOB_HEAD, CUT, VALUES, edit, load, members, merged, parse
from proxy.models import parse as model_of
from proxy.simulator import gojson

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
        (b'{"model":"\xff"}', "UTF-8"),
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
    assert parse(raw) == json.loads(raw) == load(raw)


def test_load_takes_what_parse_finds_ambiguous() -> None:
    assert load(b'{"model":"a","model":"b","Model":"c"}') == {"model": "b", "Model": "c"}
    with pytest.raises(Refused):
        load(b"[]")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
KEYS = st.sampled_from(["model", "options", "keep_alive", "x", "ä", 'q"\\', "num_ctx"]) | st.text(max_size=4).filter(
    lambda key: key == jsontext.fold(key)
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
    shape = {"model": gojson.ANY, "keep_alive": gojson.ANY, "options": gojson.ANY}
    try:
        document = parse(raw.encode())
    except Refused:
        return
    assert gojson.decode(raw.encode(), shape) == {name: document.get(name) for name in shape}


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


def test_members_are_where_they_stand() -> None:
    text = '{ "a" : [1, {"b":2}], "c\\u0064":"}"}'
    found = {key: (text[span.key : span.start], text[span.start : span.end]) for key, span in members(text, 0).items()}
    assert found == {"a": ('"a" : ', '[1, {"b":2}]'), "cd": ('"c\\u0064":', '"}"')}


# Images


def chat(image: bytes) -> bytes:
    return b'{"model":"llava","messages":[{"role":"user","content":"hi","images":["' + image + b'"]}],"keep_alive":1}'


def test_images_are_left_out_of_the_document() -> None:
    document = parse(chat(IMAGE))
    assert document["messages"][0]["images"] == [IMAGE[:BLOB_HEAD].decode() + CUT]
    assert document["keep_alive"] == 1


@pytest.mark.parametrize("head", [b"", b"data:image/png;base64,"])
@pytest.mark.parametrize("escaped", [b"hi", b'say \\"hi\\"\\n', b"\\\\"])
def test_edits_keep_images(head: bytes, escaped: bytes) -> None:
    raw = chat(head + IMAGE).replace(b"hi", escaped).replace(b"]}]", b',"' + IMAGE[1:] + b'"]}]')
    edited = edit(raw, {"model": "x", "keep_alive": 2, "messages": [1]})
    assert edited == b'{"model":"x","messages":[1],"keep_alive":2}'
    edited = edit(raw, {"model": "x", "keep_alive": 22, "new": 1})
    assert edited == b'{"new":1,' + raw[1:].replace(b'"llava"', b'"x"').replace(b'"keep_alive":1', b'"keep_alive":22')


def test_an_image_as_a_control_value_is_replaced_whole() -> None:
    assert edit(b'{"a":1,"model":"' + IMAGE + b'","b":2}', {"model": "x"}) == b'{"a":1,"model":"x","b":2}'


@pytest.mark.parametrize(
    "word",
    [
        b"A" * (BLOB - 1),  # shorter than a blob
        b"word " * BLOB,  # a prompt
        b"A\\n" * BLOB,  # escapes
        b"," + b"A" * 2 * BLOB,  # might stand between two strings, for who reads no further than the first value
        b" " + b"A" * 2 * BLOB,
        b"}" + b"A" * 2 * BLOB,
        "Ä".encode() * BLOB,
        "A中".encode() * BLOB,
    ],
)
def test_what_may_be_text_stays_whole(word: bytes) -> None:
    assert parse(b'{"prompt":"' + word + b'"}') == json.loads(b'{"prompt":"' + word + b'"}')


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":"x",' + b"A" * 2 * BLOB + b'"b":1}',
        b'{"a":' + b"1" * 2 * BLOB + b',"b":1}',
        b'{"a":"x","b":[' + b"[" * 2 * BLOB + b'"A"' + b"]" * 2 * BLOB + b"]}",
        b'{"a":"x"' + b"A" * 2 * BLOB,
        b'{"a":"' + IMAGE,
        b'{"a":"\\uQ' + IMAGE + b'"}',
        b'"' + IMAGE + b'"',
    ],
)
def test_leaving_out_makes_nothing_valid(raw: bytes) -> None:
    refusal(raw)


def test_white_space_is_not_taken_for_an_image() -> None:
    assert parse(b'{"model":"a",' + b" " * 3 * BLOB + b'"x":"A"}') == {"model": "a", "x": "A"}


@given(st.integers(0, 3 * BLOB), st.integers(0, 3 * BLOB), st.sampled_from([b"", b'\\"', b"\\\\"]))
def test_shortening_keeps_the_structure(first: int, second: int, escape: bytes) -> None:
    raw = b'{"a":"' + escape + b"A" * first + b'","b":["' + b"A" * second + b'"],"n":1}'
    document, plain = parse(raw), json.loads(raw)
    assert document.keys() == plain.keys()
    assert is_read_as(plain, document)
    assert edit(raw, {"n": 2}) == raw.replace(b'"n":1', b'"n":2')


def is_read_as(whole: Any, document: Any) -> bool:
    """Whether `document` is what `whole` says, but for strings that were cut, and that say so."""
    if isinstance(document, dict):
        return document.keys() == whole.keys() and all(is_read_as(whole[key], document[key]) for key in document)
    if isinstance(document, list):
        return len(document) == len(whole) and all(map(is_read_as, whole, document))
    if isinstance(document, str) and document.endswith(CUT) and document != whole:
        return bool(whole.startswith(document.removesuffix(CUT)))
    return bool(document == whole)


PIECES = ['{"model":"a"', ',"x":', '"', '"y"', ":", "1", "-1", "{", "}", "[", "]", ",", "null", "\\", " " * 5, "A" * 20]


@given(st.lists(st.sampled_from(PIECES) | st.integers(0, 9).map("A".__mul__), max_size=14))
@example(['{"model":"a","keep_alive"', ":", "   ", "-1", "}", "A" * 20, '"5m"', "}"])  # Ollama stops at the first brace
@example(['{"model":"a","x"', " " * 4, "}", "A" * 20, '"', '"', "}"])
@example(['{"model":"a', "A" * 20, '"', "}"])
def test_nothing_is_hidden_from_the_policy_by_leaving_out(pieces: list[str]) -> None:
    raw = ("{" + "".join(pieces).removeprefix("{")).encode()
    with pytest.MonkeyPatch.context() as small:
        small.setattr(jsontext, "BLOB", 12)
        small.setattr(jsontext, "BLOB_HEAD", 4)
        try:
            document = parse(raw)
        except Refused:
            return
    try:
        read = gojson.plain(gojson.parse(raw))
    except gojson.BadJSON:
        return  # nor does Ollama do what it says
    assert is_read_as(read, document)


def test_a_name_that_was_cut_is_not_taken_for_its_beginning() -> None:
    head = "llama3.2-" + "x" * 60 + ":" + "x" * 58
    assert len(head) == BLOB_HEAD
    name = head + "x" * BLOB + "://registry.ollama.ai/library/qwen3"  # which is qwen3 for Ollama
    document = parse(json.dumps({"model": name}).encode())
    assert document == {"model": head + CUT}
    assert model_of(head) is not None
    assert model_of(document["model"]) is None
