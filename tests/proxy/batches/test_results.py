"""proxy/batches/results.py."""

import json
from dataclasses import replace
from typing import Any

import pytest
from anthropic.types.messages import MessageBatchIndividualResponse

from proxy.batches.progress import Status
from proxy.batches.results import line_for, result_of
from proxy.kernel.errors import Flavor
from proxy.kernel.journal import Entry
from tests.proxy.background.test_response_object import ENTRY

MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 2},
}
ERROR = b'{"type":"error","error":{"type":"not_found_error","message":"no model"}}'


def entry(state: Any = "completed", status: int | None = 200, error: str | None = None) -> Entry:
    return replace(ENTRY, state=state, status=status, error=error)


def told(flavor: Flavor, found: Entry | None, record: bytes = b"", batch: Status = "completed") -> dict[str, Any]:
    line = line_for(flavor, result_of("batch_req_1", 'a"b', found, record, batch))
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    document: dict[str, Any] = json.loads(line)
    return document


def test_an_answer_is_kept_byte_for_byte() -> None:
    line = line_for("openai", result_of("r", "a", entry(), b'{"x":1.50, "y":"\\u003c"}\n', "completed"))
    assert b'"body":{"x":1.50, "y":"\\u003c"}}' in line


@pytest.mark.parametrize(
    ("found", "record", "response", "code"),
    [
        (entry(), b'{"x":1}', {"status_code": 200, "request_id": "batch_req_1", "body": {"x": 1}}, None),
        (entry(), b'{"x":\n1}', {"status_code": 200, "request_id": "batch_req_1", "body": {"x": 1}}, None),
        (entry("failed", 404, "http_404: no"), b'{"error":{}}', {"status_code": 404}, None),
        (entry("failed", None, "owner_lost: gone"), b"", None, "owner_lost"),
        (entry("dead", None, "dead: too often"), b"", None, "dead"),
        (entry(), b"not json", None, "bad_answer"),
        (entry(), b"[1]", None, "bad_answer"),
        (entry("cancelled", None), b"", None, "batch_cancelled"),
        (entry("expired", None), b"", None, "batch_expired"),
        (None, b"", None, "batch_cancelled"),
    ],
)
def test_lines_of_openai(found: Entry | None, record: bytes, response: dict[str, Any] | None, code: str | None) -> None:
    document = told("openai", found, record)
    assert document["custom_id"] == 'a"b'
    assert document["id"] == "batch_req_1"
    assert (document["error"] or {}).get("code") == code
    if response is None:
        assert document["response"] is None
    else:
        assert {name: document["response"][name] for name in response} == response


@pytest.mark.parametrize(
    ("found", "record", "batch", "kind"),
    [
        (entry(), json.dumps(MESSAGE).encode(), "completed", "succeeded"),
        (entry("failed", 404, "http_404: no"), ERROR, "completed", "errored"),
        (entry("failed", 500, "http_500: no"), b'{"error":"text"}', "completed", "errored"),
        (entry("failed", None, "owner_lost: gone"), b"", "completed", "errored"),
        (entry("cancelled", None), b"", "cancelled", "canceled"),
        (entry("cancelled", None), b"", "expired", "expired"),
        (None, b"", "expired", "expired"),
        (None, b"", "cancelled", "canceled"),
    ],
)
def test_lines_of_anthropic_are_the_sdks_type(found: Entry | None, record: bytes, batch: Status, kind: str) -> None:
    read = MessageBatchIndividualResponse.model_validate(told("anthropic", found, record, batch))
    assert (read.custom_id, read.result.type) == ('a"b', kind)
