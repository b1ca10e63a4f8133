"""proxy/batches/input_lines.py."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.batches.input_lines import MOST_PROBLEMS, LineForm, Wrong, check_lines, lines_from, read_line
from tests.support.batches import CHAT, lines
from tests.support.cost import assert_flat

OPENAI = LineForm.of("openai", CHAT)
ANTHROPIC = LineForm.of("anthropic", "/v1/messages")
GOOD: dict[str, Any] = {"custom_id": "a", "method": "POST", "url": CHAT, "body": {"model": "m"}}


def test_a_body_is_kept_as_it_was_written() -> None:
    text = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body": {"model": "m" ,"n":1.50} }'
    line = read_line(text, OPENAI, 100)
    assert (line.custom_id, line.body, line.document) == ("a", b'{"model": "m" ,"n":1.50}', {"model": "m", "n": 1.5})


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"custom_id": ""}, "missing_required_parameter", "custom_id"),
        ({"custom_id": 7}, "missing_required_parameter", "custom_id"),
        ({"custom_id": "x" * 513}, "invalid_request", "custom_id"),
        ({"custom_id": "a\nb"}, "invalid_request", "custom_id"),
        ({"method": "GET"}, "invalid_method", "method"),
        ({"url": "/v1/embeddings"}, "mismatched_endpoint", "url"),
        ({"url": "/api/pull"}, "mismatched_endpoint", "url"),
        ({"body": None}, "missing_required_parameter", "body"),
        ({"body": [1]}, "missing_required_parameter", "body"),
        ({"body": {"stream": True}}, "invalid_request", "body.stream"),
        ({"body": {"background": True}}, "invalid_request", "body.background"),
        ({"body": {"x": "y" * 200}}, "invalid_request", "body"),
    ],
)
def test_what_is_wrong_with_a_line(change: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(Wrong) as wrong:
        read_line(json.dumps({**GOOD, **change}).encode(), OPENAI, 100)
    assert (wrong.value.code, wrong.value.param) == (code, param)


@pytest.mark.parametrize("text", [b"{", b"[]", b"7", b'"a"', b"\xff", b'{"a":NaN}'])
def test_what_is_no_object(text: bytes) -> None:
    with pytest.raises(Wrong) as wrong:
        read_line(text, OPENAI, 100)
    assert wrong.value.code == "invalid_json_line"


@pytest.mark.parametrize("name", ["a b", "ä", "x" * 65, "a/b"])
def test_anthropics_ids_are_narrower(name: str) -> None:
    with pytest.raises(Wrong):
        read_line(json.dumps({"custom_id": name, "params": {}}).encode(), ANTHROPIC, 100)


def test_anthropics_requests_have_params() -> None:
    assert read_line(b'{"custom_id":"a","params":{"model":"m"}}', ANTHROPIC, 100).body == b'{"model":"m"}'


def test_every_mistake_is_told_with_its_line() -> None:
    data = lines("a", "b", "a") + b"\n{\n"
    total, problems, model = check_lines(data, OPENAI, 100)
    assert (total, model) == (4, "m")
    assert [(problem.line, problem.code) for problem in problems] == [
        (3, "duplicate_custom_id"),
        (4, "invalid_json_line"),
    ]


def test_a_file_without_requests_is_a_mistake() -> None:
    assert [problem.code for problem in check_lines(b"\n \n", OPENAI, 100)[1]] == ["empty_file"]


def test_mistakes_that_are_told_are_bounded() -> None:
    total, problems, _ = check_lines(b"{\n" * 500, OPENAI, 100)
    assert (total, len(problems)) == (500, MOST_PROBLEMS)


@given(st.lists(st.binary(max_size=5).map(lambda text: text.replace(b"\n", b"")), max_size=20), st.booleans())
def test_lines_go_on_behind_any_of_them(parts: list[bytes], last: bool) -> None:
    data = b"\n".join(parts) + (b"\n" if last else b"")
    whole = list(lines_from(data))
    for place, (_, end) in enumerate(whole):
        assert list(lines_from(data, end)) == whole[place + 1 :]


def test_checking_takes_time_in_proportion_to_the_lines() -> None:
    def some(size: int) -> bytes:
        return lines(*(f"q{number}" for number in range(size // 100)))

    assert_flat(lambda data: check_lines(data, OPENAI, 1000), some, 20_000)
