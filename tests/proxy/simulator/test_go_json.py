import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.simulator import go_json
from proxy.simulator.go_json import ANY, BOOL, FLOAT, INT, INTS, MAP, POINTER, STRING, STRINGS

SHAPE = {
    "model": STRING,
    "stream": POINTER + BOOL,
    "raw": BOOL,
    "limit": POINTER + INT,
    "top_p": FLOAT,
    "options": MAP,
    "messages": "[]api.Message",
    "stop": STRINGS,
    "context": INTS,
    "tools": "[]api.Tools",
    "form": POINTER + "openai.ResponseFormat",
    "format": ANY,
}
ZERO: dict[str, Any] = go_json.zero(SHAPE)


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        (b"{}", {}),
        (b"null", {}),
        (b' \n{"model":"a"}', {"model": "a"}),
        (b'{"model":"a"} and more', {"model": "a"}),
        (b'{"model":"a"}{"model":"b"}', {"model": "a"}),
        (b'{"model":"a","model":"b"}', {"model": "b"}),
        (b'{"model":"a","MODEL":"b"}', {"model": "b"}),
        (b'{"Model":"b","model":"a"}', {"model": "a"}),
        ('{"me\u017f\u017fages":[1]}'.encode(), {"messages": [1]}),
        ('{"\u212aodel":"no"}'.encode(), {}),
        ('{"format":1,"\u212a":2}'.encode(), {"format": 1}),
        ('{"me\u00dfages":[1]}'.encode(), {}),
        (b'{"model":"a","model":null}', {"model": "a"}),
        (b'{"stream":false,"stream":null}', {"stream": None}),
        (b'{"raw":true,"raw":null}', {"raw": True}),
        (b'{"options":{"a":1},"OPTIONS":{"b":2}}', {"options": {"a": 1, "b": 2}}),
        (b'{"options":{"a":1},"options":null}', {"options": {}}),
        (b'{"options":{"num_ctx":1,"NUM_CTX":2}}', {"options": {"num_ctx": 1, "NUM_CTX": 2}}),
        (b'{"messages":[1,2],"messages":[3]}', {"messages": [3]}),
        (b'{"messages":[1],"messages":null}', {"messages": []}),
        (b'{"stop":["a",null],"context":[1,null]}', {"stop": ["a", None], "context": [1, None]}),
        (b'{"form":{"type":"text","type":"json"}}', {"form": {"type": "json"}}),
        (b'{"form":{},"form":null}', {"form": None}),
        (b'{"top_p":1}', {"top_p": 1}),
        (b'{"limit":5}', {"limit": 5}),
        (b'{"model":"\xff\xfe"}', {"model": "\ufffd\ufffd"}),
        (b'{"model":"\xf0\x9f\x98"}', {"model": "\ufffd\ufffd\ufffd"}),  # one for each broken byte
        (rb'{"model":"\ud800x"}', {"model": "\ufffdx"}),
        (rb'{"model":"\ud83d\ude42"}', {"model": "\U0001f642"}),
        (b'{"format":{"b":1,"b":2}}', {"format": {"b": 2}}),
        (b'{"unknown":[[[1]]]}', {}),
    ],
)
def test_decoding_as_go_does(body: bytes, changes: dict[str, Any]) -> None:
    assert go_json.decode(body, SHAPE) == {**ZERO, **changes}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"model":',
        b'{"model":"a',
        b"[]",
        b'"text"',
        b"7",
        b"\xef\xbb\xbf{}",
        b"{'model':1}",
        b'{"options":{"seed":1e999}}',
        b'{"model":1}',
        b'{"stream":"true"}',
        b'{"stream":1}',
        b'{"limit":1.5}',
        b'{"limit":true}',
        b'{"options":[]}',
        b'{"messages":{}}',
        b'{"model":NaN}',
        b'{"top_p":Infinity}',
        b'{"model":"a\nb"}',
        b'{"limit":01}',
        b"{,}",
        b'{"limit":' + b"1" * 5000 + b"}",
        b"[" * 100_000,
        b'{"format":' * 20_000,
    ],
)
def test_what_go_refuses(body: bytes) -> None:
    with pytest.raises(go_json.BadJSON):
        go_json.decode(body, SHAPE)


@pytest.mark.parametrize("body", [b"", b"   \n"])
def test_nothing_is_its_own_error(body: bytes) -> None:
    with pytest.raises(go_json.NoJSON):
        go_json.decode(body, SHAPE)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"messages":{}}', "object into Go struct field R.messages of type []api.Message"),
        (b'{"tools":"x"}', "string into Go struct field R.tools of type api.Tools"),
        (b'{"stop":["a",5]}', "number into Go struct field R.stop of type string"),
        (b'{"context":[1,true]}', "bool into Go struct field R.context of type int"),
        (b'{"form":[]}', "array into Go struct field R.form of type openai.ResponseFormat"),
    ],
)
def test_what_go_says_of_a_wrong_type(body: bytes, error: str) -> None:
    with pytest.raises(go_json.BadJSON) as caught:
        go_json.decode(body, SHAPE, "api.R")
    assert str(caught.value) == f"json: cannot unmarshal {error}"


def test_zero_values() -> None:
    assert go_json.decode(b"{}", SHAPE) == {
        "model": "", "stream": None, "raw": False, "limit": None, "top_p": 0.0, "options": {}, "messages": [],
        "format": None, "stop": [], "context": [], "tools": [], "form": None,
    }  # fmt: skip


def test_an_interface_keeps_case_and_takes_the_last() -> None:
    value = go_json.plain(go_json.parse(b'{"A":1,"a":[{"b":null,"b":2}]}'))
    assert value == {"A": 1, "a": [{"b": 2}]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("<b>&", rb'"\u003cb\u003e\u0026"'),
        ("a\u2028b\u2029", rb'"a\u2028b\u2029"'),
        ("Zürich 東京", '"Zürich 東京"'.encode()),
        ('"\\\n', rb'"\"\\\n"'),
        ({"a": [1, 2.5, None, True]}, b'{"a":[1,2.5,null,true]}'),
    ],
)
def test_encoding_as_go_does(value: object, text: bytes) -> None:
    assert go_json.dumps(value) == text


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_quoting_is_json_on_one_line(text: str) -> None:
    quoted = go_json.quote(text)
    assert json.loads(quoted) == text
    assert len(quoted.decode().splitlines()) == 1 or "\x85" in text


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(values)
def test_what_is_written_reads_the_same(value: object) -> None:
    assert go_json.plain(go_json.parse(go_json.dumps(value))) == value


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_bad(body: bytes) -> None:
    with contextlib.suppress(go_json.BadJSON):
        assert go_json.decode(body, SHAPE).keys() == SHAPE.keys()


def test_folding_is_simple() -> None:
    assert go_json.fold("Model") == "model"
    assert go_json.fold("me\u017f\u017fageS") == "messages"
    assert go_json.fold("\u212aEY") == "key"
    assert go_json.fold("gro\u00df") != "gross"


def test_words_are_remembered_and_longer_text_is_not() -> None:
    kept = go_json._word.cache_info().currsize
    assert go_json.quote("<" * 1000) == b'"' + b"\\u003c" * 1000 + b'"'
    assert go_json._word.cache_info().currsize == kept
