"""The words of requests and answers in all four APIs."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.dialogue import LONGEST_RECORD, Listener, prompt_of


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
