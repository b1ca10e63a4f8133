from typing import Any

import pytest

from proxy.kernel.response_items import items_of, merged_input

HELLO = {"type": "message", "role": "user", "content": "Hello"}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "hm"}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
ANSWER = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed"}


@pytest.mark.parametrize(
    ("before", "output", "new", "merged"),
    [
        ("Hello", [ANSWER], [RESULT], [HELLO, ANSWER, RESULT]),
        ([HELLO], [REASONING, CALL], [RESULT], [HELLO, REASONING, CALL, RESULT]),
        ([HELLO, ANSWER], [], "Hello", [HELLO, ANSWER, HELLO]),
        (None, [ANSWER], "", [ANSWER]),
        ("Hello", [SEARCH, ANSWER], None, [HELLO, ANSWER]),
        ([], ["odd"], ["odd"], ["odd", "odd"]),
    ],
)
def test_what_was_said_before_stands_in_front(before: Any, output: list[Any], new: Any, merged: list[Any]) -> None:
    assert merged_input(before, output, new) == merged


def test_the_arguments_stay_as_they_are() -> None:
    before, output, new = [HELLO], [ANSWER], [RESULT]
    merged_input(before, output, new).append("more")
    assert (before, output, new) == ([HELLO], [ANSWER], [RESULT])


@pytest.mark.parametrize("sent", [None, "", 5, {"role": "user"}])
def test_what_is_no_input_has_no_items(sent: object) -> None:
    assert items_of(sent) == []
