"""Events of the Responses API over WebSocket: what is asked of a backend, and what is remembered."""

import json
from typing import Any

import pytest
from openai.types.responses import ResponseCompletedEvent, ResponseCreatedEvent

from proxy.kernel.errors import Refused
from proxy.websocket.response_memory import ResponseMemory
from proxy.websocket.response_mode import ResponseMode, ResponseRequest
from tests.proxy.websocket.test_request_mode import Desk


def memory() -> ResponseMemory:
    return ResponseMemory(10_000, lambda change: None)


def event(**members: Any) -> bytes:
    return json.dumps({"type": "response.create", "model": "m", **members}).encode()


def prepared(request: ResponseRequest) -> Any:
    body = request.prepare()
    assert body is not None
    return json.loads(body)


USER = {"type": "message", "role": "user", "content": "hi"}
DEEP = b'{"type":"response.completed","response":{"id":"r","output":' + b"[" * 300 + b"]" * 300 + b"}}"
SAID = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hello"}]}


def test_the_body_is_the_event_without_what_is_the_sockets() -> None:
    message = b'{"type":"response.create", "model":"m","stream_id":"l","temperature":0.50,"input":"hi"}'
    body = ResponseRequest("l", message, memory()).prepare()
    assert body == b'{"stream":true,"model":"m","temperature":0.50,"input":"hi"}'
    assert prepared(ResponseRequest(None, event(input="hi", stream=False), memory()))["stream"] is True


def test_a_conversation_is_remembered_and_gone_on_from() -> None:
    known = memory()
    first = ResponseRequest(None, event(input="hi", instructions="be kind"), known)
    prepared(first)
    last = {"type": "response.completed", "response": {"id": "resp_1", "output": [SAID]}}
    first.completed(json.dumps(last).encode())
    body = prepared(ResponseRequest("b", event(input=[USER], previous_response_id="resp_1"), known))
    assert body == {"model": "m", "stream": True, "input": [USER, SAID, USER]}


@pytest.mark.parametrize("previous", ["resp_2", 7, ["resp_1"]])
def test_an_unknown_response_is_refused(previous: object) -> None:
    with pytest.raises(Refused) as refused:
        ResponseRequest(None, event(input="x", previous_response_id=previous), memory()).prepare()
    assert (refused.value.status, refused.value.code) == (400, "previous_response_not_found")


@pytest.mark.parametrize(
    "last", [b"", b"[]", b'{"type":"response.failed","response":{"id":"r"}}', b'{"type":"error"}', DEEP]
)
def test_what_is_no_whole_response_is_not_remembered(last: bytes) -> None:
    known = memory()
    ResponseRequest(None, event(input="hi"), known).completed(last)
    assert known.get("r") is None


def test_nothing_is_generated_where_that_is_asked() -> None:
    known = memory()
    request = ResponseRequest("l", event(input="hi", generate=False), known)
    assert request.prepare() is None
    created, completed = (json.loads(frame) for frame in request.answered())
    assert created.pop("stream_id") == completed.pop("stream_id") == "l"
    assert ResponseCreatedEvent.model_validate(created).response.status == "in_progress"
    response = ResponseCompletedEvent.model_validate(completed).response
    assert json.loads(known.get(response.id) or b"") == [USER]


def test_events_have_the_lane_and_errors_are_events() -> None:
    request = ResponseRequest("l", event(), memory())
    assert json.loads(request.frame(b'{"type":"x"}')) == {"stream_id": "l", "type": "x"}
    assert ResponseRequest(None, event(), memory()).frame(b'{"type":"x"}') == b'{"type":"x"}'
    broken = json.loads(request.frame(b'{"error":{"message":"broke off","type":"api_error","code":"c"}}'))
    assert (broken["type"], broken["stream_id"], broken["error"]["code"]) == ("error", "l", "c")


@pytest.mark.parametrize(
    "message",
    [
        b"{}",
        b"{",
        b'{"type":"response.steer"}',
        b'{"type":7}',
        event(background=True),
        event(stream_id=7),
        event(stream_id=""),
        b'{"type":"response.create","input":' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"type":"response.create","previous_response_id":"a","previous_response_id":"b"}',
    ],
)
def test_other_events_are_refused(message: bytes) -> None:
    desk = Desk()
    ResponseMode(desk, memory()).read(message)()
    assert not desk.started
    assert (desk.said[0]["type"], desk.said[0]["status"]) == ("error", 400)


def test_an_event_starts_a_request_in_its_lane() -> None:
    desk = Desk()
    ResponseMode(desk, memory()).read(event(stream_id="l"))()
    assert [(request.lane, request.named) for request in desk.started] == [("l", False)]
