"""The end that Ollama's guard against repetition makes, told from others in every API, however the bytes come."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.answer_end import Tail
from proxy.relay.repeat_guard import EQUAL, SPACE, Verdict, verdict
from tests.support.pieces import APIS, Api

LOOP = ["a", " a", "a\n"]


def ollama_stops(texts: Sequence[str]) -> bool:
    """Return whether Ollama's guard stops behind these pieces, where the next one is like the last one."""
    last, repeat = "", 0
    for text in [*texts, texts[-1] if texts else ""]:
        bare = text.strip(SPACE)
        if bare == last:
            repeat += 1
        else:
            last, repeat = bare, 0
    return repeat > 30


def why(api: Api, chunks: Sequence[bytes]) -> Verdict:
    tail = Tail(api.layout)
    for chunk in chunks:
        tail.add(chunk)
    assert not tail.read().terminated
    return tail.why()


def expected(api: Api, texts: Sequence[str]) -> Verdict:
    return "repeated" if ollama_stops(texts) else "hidden" if api.thinks else "other"


PIECES = st.text("ab \n\t\u00a0\u2028\x1c", min_size=1, max_size=4)
SPACED = st.builds("{}%s{}".format, st.sampled_from(["", " "]), st.sampled_from([" ", "\n"]))
ENDS = st.tuples(st.sampled_from(["", "a", "b"]), st.integers(0, 40)).flatmap(
    lambda end: st.lists(SPACED.map(lambda text: text % end[0]), min_size=end[1], max_size=end[1])
)


@given(st.sampled_from(sorted(APIS)), st.lists(PIECES, max_size=40), ENDS, st.data())
def test_it_is_what_ollama_does_however_the_bytes_come(
    name: str, texts: list[str], end: list[str], data: st.DataObject
) -> None:
    api = APIS[name]
    texts = [*texts, *end] or ["a"]
    wire = b"".join(map(api.write, texts))
    cuts = data.draw(st.one_of(st.just([]), st.lists(st.integers(1, len(wire) - 1), max_size=200, unique=True)))
    chunks = [wire[start:stop] for start, stop in pairwise([0, *sorted(cuts), len(wire)])]
    assert why(api, chunks) == expected(api, texts)


@pytest.mark.parametrize("name", APIS)
@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_byte_by_byte_and_all_at_once(name: str, size: int) -> None:
    api = APIS[name]
    for texts in (["x", *LOOP * 10, "a"], ["x", *LOOP * 10], [" "] * 30, [" "] * 29, ["x", *[" "] * 30]):
        wire = b"".join(map(api.write, texts))
        chunks = [wire[start : start + size] for start in range(0, len(wire), size)]
        assert why(api, chunks) == expected(api, texts), texts


@pytest.mark.parametrize("name", [name for name, api in APIS.items() if api.between])
def test_other_events_between_the_pieces_do_not_matter(name: str) -> None:
    api = APIS[name]
    chunks = [chunk for text in ["x", *["a"] * EQUAL] for chunk in (api.write(text), api.between)]
    assert why(api, chunks) == "repeated"
    assert why(api, chunks[:-4]) == "other"


def test_a_piece_that_cannot_be_read_equals_no_other_one() -> None:
    record = b'{"response":"a"}'
    assert verdict([record] * EQUAL, whole=True) == "repeated"
    assert verdict([*[record] * (EQUAL - 1), b'{"response":', record], whole=True) == "other"
    assert verdict([b"nonsense"] * EQUAL, whole=True) == "other"


def test_blank_text_behind_thoughts_may_have_been_dropped() -> None:
    """`/api/generate` writes an empty piece for it, `/api/chat` none."""
    thought, nothing, text = b'{"response":"","thinking":"a"}', b'{"response":""}', b'{"response":"b"}'
    assert verdict([nothing, nothing, thought], whole=True) == "hidden"
    assert verdict([*[nothing] * EQUAL, thought], whole=True) == "repeated"
    assert verdict([text, thought], whole=True) == "other"


def test_records_without_text_are_no_pieces() -> None:
    for record in (b'{"choices":[]}', b'{"choices":[1]}', b'{"type":"ping"}', b'{"a":1}', b'{"message":1}', b"[1]"):
        assert verdict([record] * 40, whole=False) == "other"


def test_white_space_is_what_go_takes_for_it() -> None:
    assert set(SPACE) == {chr(code) for code in range(0x10000) if chr(code).isspace()} - set("\x1c\x1d\x1e\x1f")
