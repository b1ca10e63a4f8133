"""The words of requests and answers in all four APIs."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from middleware.capture import words
from middleware.capture.words import LONGEST_RECORD, Listener, prompt_of
from tests.support.cost import assert_flat


@pytest.mark.parametrize(
    ("document", "prompt"),
    [
        ({"prompt": "Why?", "system": "Be brief.", "suffix": "."}, "Be brief.\nWhy?\n."),
        ({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]}, "system: S\nuser: Q"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url"}]}]},
            "user: look",
        ),
        (
            {"instructions": "I", "input": [{"role": "user", "content": [{"type": "input_text", "text": "T"}]}]},
            "I\nuser: T",
        ),
        ({"input": ["one", "two"]}, "one\ntwo"),
        ({"input": "one"}, "one"),
        ({"system": [{"type": "text", "text": "S"}], "messages": []}, "S"),
        ({"messages": [1, None, {"role": "user"}, {"content": 3, "role": "user"}]}, "user: \nuser: "),
        ({"messages": "nonsense", "prompt": 7}, "nonsense"),
        ({}, ""),
    ],
)
def test_prompts(document: dict[str, Any], prompt: str) -> None:
    assert prompt_of(document, 1000) == prompt


def test_the_end_of_a_long_prompt_is_kept() -> None:
    assert prompt_of({"prompt": "x" * 1000 + "end"}, 5) == "xxend"


def heard(*chunks: bytes, limit: int = 1000) -> str:
    listener = Listener(limit)
    for chunk in chunks:
        listener.hear(chunk)
    return listener.words()


def lines(*records: object) -> list[bytes]:
    return [orjson.dumps(record) + b"\n" for record in records]


def events(*records: object) -> list[bytes]:
    return [b"data: " + orjson.dumps(record) + b"\n\n" for record in records]


ANSWERS = {
    "chat": lines({"message": {"role": "assistant", "content": "He"}}, {"message": {"content": "llo"}, "done": True}),
    "generate": lines({"response": "He"}, {"response": "llo"}, {"response": "", "done": True}),
    "chat, in one piece": [orjson.dumps({"message": {"content": "Hello"}})],
    "openai": [
        *events(
            {"choices": [{"delta": {"content": "He"}}]}, {"choices": [{"delta": {"content": "llo"}}]}, {"choices": []}
        ),
        b"data: [DONE]\n\n",
    ],
    "openai, in one piece": [orjson.dumps({"choices": [{"message": {"content": "Hello"}}]})],
    "openai, completions": events({"choices": [{"text": "He"}]}, {"choices": [{"text": "llo"}]}),
    "responses": events(
        {"type": "response.output_text.delta", "delta": "He"},
        {"type": "response.output_text.delta", "delta": "llo"},
        {"type": "response.function_call_arguments.delta", "delta": "{}"},
        {"type": "response.output_text.done", "text": "Hello"},
    ),
    "responses, in one piece": [orjson.dumps({"output": [{"content": [{"type": "output_text", "text": "Hello"}]}]})],
    "anthropic": events(
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "He"}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "llo"}},
        {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    ),
    "anthropic, in one piece": [orjson.dumps({"content": [{"type": "text", "text": "Hello"}]})],
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers(name: str) -> None:
    assert heard(*ANSWERS[name]) == "Hello"


@pytest.mark.parametrize("name", ANSWERS)
@given(size=st.integers(1, 40))
def test_however_they_are_cut(name: str, size: int) -> None:
    whole = b"".join(ANSWERS[name])
    assert heard(*(whole[start : start + size] for start in range(0, len(whole), size))) == "Hello"


def test_when_there_is_enough_nothing_more_is_looked_at() -> None:
    listener = Listener(4)
    full = []
    for chunk in (b'{"response":"abc"}\n', b'{"response":"def"}\n{"response":"ghi"}\n'):
        listener.hear(chunk)
        full.append(listener.full)
    assert full == [False, True]
    assert listener.words() == "abcd"


def test_a_record_that_never_ends_is_not_kept() -> None:
    listener = Listener(100)
    for _ in range(100):
        listener.hear(b"x" * LONGEST_RECORD)
    listener.hear(b'\n{"response":"still there"}\n')
    assert listener.words() == "still there"


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_junk_is_no_error(one: bytes, two: bytes) -> None:
    heard(one, two, b'\n{1}\n[]\n{"choices":[1,{"delta":3}],"output":{}}\n')


CONTENT = st.recursive(
    st.none() | st.text("ab\n", max_size=4) | st.integers(),
    lambda inner: st.lists(
        inner
        | st.fixed_dictionaries({"role": st.sampled_from(["user", "tool"]), "content": inner})
        | st.fixed_dictionaries({"type": st.just("text"), "text": inner}),
        max_size=3,
    ),
    max_leaves=6,
)


def simply(content: Any) -> str:
    """The text of a content, put together as one reads it."""
    if isinstance(content, str):
        return content
    return "\n".join(filter(None, map(of_part, content))) if isinstance(content, list) else ""


def of_part(part: Any) -> str:
    if not isinstance(part, dict):
        return part if isinstance(part, str) else ""
    return f"{part['role']}: {simply(part['content'])}" if "role" in part else simply(part["text"])


def depth(content: Any) -> int:
    parts = content if isinstance(content, list) else []
    inner = [part.get("content", part.get("text")) if isinstance(part, dict) else None for part in parts]
    return 0 if not isinstance(content, list) else 1 + max(map(depth, inner), default=0)


@given(st.dictionaries(st.sampled_from(["system", "prompt", "input", "messages"]), CONTENT), st.integers(0, 40))
def test_the_end_of_a_prompt_is_the_end_of_all_that_is_said(document: dict[str, Any], limit: int) -> None:
    assume(max(map(depth, document.values()), default=0) <= words.DEEPEST)
    names = ("system", "instructions", "prompt", "suffix", "input", "messages")
    whole = "\n".join(filter(None, (simply(document.get(name)) for name in names)))
    assert prompt_of(document, limit) == (whole[-limit:] if limit else "")


def test_what_is_nested_without_end_is_no_prompt() -> None:
    content: Any = "deep"
    for _ in range(5000):
        content = [{"role": "user", "content": content}]
    assert "deep" not in prompt_of({"messages": content}, 10_000)
    while isinstance(content, list):
        content = content[0].pop("content")  # to be freed level by level


@pytest.mark.parametrize(
    "make",
    [
        lambda size: {"messages": [{"role": "user", "content": "a"}] * (size // 8)},
        lambda size: {"messages": [{}] * size},
        lambda size: {"messages": [[]] * size},
        lambda size: {"prompt": "a" * size},
        lambda size: {"system": "a" * size, "prompt": "b" * size},
    ],
)
def test_a_long_conversation_costs_no_more_by_the_byte(make: Callable[[int], dict[str, Any]]) -> None:
    assert_flat(lambda document: prompt_of(document, 4096), make, 64 * 1024)


@pytest.mark.parametrize("piece", [b"a", b'{"response":"', b"\n", b"{}\n", b"{\n", b"[[[[", b'{"a":[[]]}\n'])
def test_an_answer_in_small_pieces_costs_no_more_by_the_byte(piece: bytes) -> None:
    def hear(pieces: int) -> None:
        listener = Listener(1000)
        for _ in range(pieces):
            listener.hear(piece)
        listener.words()

    assert_flat(hear, lambda size: size, 2048)
