"""proxy/kernel/image_stripping.py, by what a body reads as with it."""

import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.kernel import image_stripping, json_bounds
from proxy.kernel.body_json import parse
from proxy.kernel.errors import Refused
from proxy.kernel.image_stripping import BLOB, BLOB_HEAD, CUT
from proxy.kernel.json_bounds import TEXT
from proxy.kernel.json_edit import edit
from proxy.kernel.model_names import parse as model_of
from proxy.simulator import go_json
from tests.support.cost import assert_flat

PIECE = json_bounds._PIECE
IMAGE = b64encode(bytes(range(256)) * 1024)


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
        b"A\\t" * BLOB,  # escapes that no base64 has
        b"A\\u0041" * BLOB,
        b"A\\\\n" * BLOB,
        b'A\\"' * BLOB,
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
    with pytest.raises(Refused):
        parse(raw)


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
        small.setattr(image_stripping, "BLOB", 12)
        small.setattr(image_stripping, "BLOB_HEAD", 4)
        try:
            document = parse(raw)
        except Refused:
            return
    try:
        read = go_json.plain(go_json.parse(raw))
    except go_json.BadJSON:
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


MANY = b64encode(bytes(range(256)) * 132)  # 45 KB


@pytest.mark.parametrize(
    "images",
    [
        [b64encode(bytes(range(256)) * 2**10 * 53).replace(b"/", b"\\/")],  # as PHP writes it
        [b"\\n".join([b"A" * 76] * 250_000)],  # as MIME does
        [b"\\r\\n".join([b"A" * 76] * 230_000) + b"\\r\\n"],
        [MANY] * 390,
        [MANY[:9000]] * 2000,
    ],
    ids=["slashes", "lines", "long line ends", "many", "small"],
)
def test_images_beyond_what_text_may_have(images: list[bytes]) -> None:
    raw = chat(b'","'.join(images))
    assert len(raw) > TEXT
    shown = parse(raw)["messages"][0]["images"]
    assert len(shown) == len(images)
    assert all(text.endswith(CUT) and len(text) <= BLOB_HEAD + 2 for text in shown)
    assert edit(raw, {"keep_alive": 2}) == raw[:-2] + b"2}"


@pytest.mark.parametrize("escape", [b"\\/", b"\\n", b"\\r"])
@pytest.mark.parametrize("at", [0, BLOB_HEAD - 2, BLOB_HEAD - 1, BLOB_HEAD, BLOB, PIECE - 1, PIECE, 2 * PIECE - 2])
def test_a_cut_does_not_go_through_an_escape(escape: bytes, at: int) -> None:
    word = b"A" * at + escape + b"A" * (3 * PIECE - at)
    raw = b'{"a":"' + word + b'","n":1}'
    assert is_read_as(json.loads(raw), document := parse(raw))
    assert document["a"].endswith(CUT)
    assert edit(raw, {"n": 2}) == raw.replace(b'"n":1', b'"n":2')


@pytest.mark.parametrize("character", [*(bytes([code]) for code in range(0x20)), b"\\x", b"\\"])
def test_what_is_no_json_in_a_long_word_is_refused_as_by_ollama(character: bytes) -> None:
    for word in (b"A" * 2 * BLOB + character, b"A" * 2 * PIECE + character + b"A" * PIECE):
        with pytest.raises(Refused):
            parse(b'{"model":"llama3","images":["' + word + b'"]}')


@pytest.mark.parametrize("word", [b"\\/", b"A\\n", b"\\\\", b"\\\\/n", b"A" * BLOB + b'","', b"A"])
def test_a_byte_costs_the_same_in_a_longer_word(word: bytes) -> None:
    assert_flat(image_stripping.shorten, lambda size: b'{"a":"' + word * (size // len(word)) + b'"}', PIECE)
