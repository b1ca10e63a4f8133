"""proxy/background/response_object.py."""

from dataclasses import replace
from typing import Any

import pytest
from openai.types.responses import Response
from openai.types.responses.response_item_list import ResponseItemList

from proxy.background.response_object import Status, input_items, response_object
from proxy.kernel.journal import Entry
from tests.support.batches import ANN

ENTRY = Entry(
    id="resp_" + "1" * 32,
    kind="request",
    state="queued",
    caller=ANN,
    method="POST",
    path="/v1/responses",
    query="",
    headers=(),
    flavor="openai",
    model="llama3.2",
    parent=None,
    cost=1,
    priority=0,
    created_at=1_000_000.5,
    expires_at=2_000_000.0,
)
FULL: dict[str, Any] = {
    "model": "llama3.2",
    "input": "hi",
    "instructions": "be short",
    "max_output_tokens": 10,
    "metadata": {"a": "b"},
    "parallel_tool_calls": False,
    "reasoning": {"effort": "low"},
    "temperature": 0,
    "top_p": 0.5,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": True}],
    "truncation": "auto",
}


@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelled", "failed"])
@pytest.mark.parametrize("request_body", [{}, FULL, dict.fromkeys(FULL, object) | {"model": None}])
def test_the_object_is_the_sdks_type(status: Status, request_body: dict[str, Any]) -> None:
    made = response_object(ENTRY, request_body, status, why="it broke" if status == "failed" else None)
    found = Response.model_validate(made, strict=True)
    assert (found.id, found.status, found.background, found.model) == (ENTRY.id, status, True, "llama3.2")
    assert (found.error is None) == (status != "failed")


def test_what_the_request_said_is_repeated() -> None:
    made = response_object(ENTRY, FULL, "queued")
    assert {name: made[name] for name in FULL if name != "input"} == {n: v for n, v in FULL.items() if n != "input"}


def test_a_response_without_a_model_has_none() -> None:
    assert response_object(replace(ENTRY, model=None), {}, "queued")["model"] == ""


@pytest.mark.parametrize(
    "asked",
    [
        "hi",
        [{"role": "user", "content": "hi"}, {"type": "function_call_output", "call_id": "c", "output": "x"}],
        [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
    ],
)
def test_items_of_the_input_are_the_sdks_type(asked: object) -> None:
    items = input_items(ENTRY.id, asked)
    page = {"object": "list", "data": items, "first_id": items[0]["id"], "last_id": items[-1]["id"], "has_more": False}
    first = ResponseItemList.model_validate(page).data[0]
    assert first.type == "message"
    assert first.content[0].type == "input_text"
