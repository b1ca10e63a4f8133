"""Messages that are request bodies: what of them is sent on, and what comes back."""

import json
from typing import Any

import pytest

from proxy.kernel.errors import Refused
from proxy.websocket.request_mode import BodyRequest, RequestMode
from proxy.websocket.socket_request import SocketRequest


class Desk:
    def __init__(self) -> None:
        self.started: list[SocketRequest] = []
        self.cancelled: list[object] = []
        self.said: list[Any] = []
        self.full = False

    def start(self, request: SocketRequest) -> None:
        if self.full:
            raise Refused(429, "too many")
        self.started.append(request)

    def cancel(self, lane: object) -> None:
        self.cancelled.append(lane)

    def say(self, frame: bytes) -> None:
        self.said.append(json.loads(frame))


@pytest.mark.parametrize(
    ("message", "lane", "body"),
    [
        (b' { "model" : "x" }', None, b' { "model" : "x" }'),
        (b'{"id":"a","model":"x"}', "a", b'{"model":"x"}'),
        (b'{"model":"x", "id": 7 ,"n":1e2}', 7, b'{"model":"x", "n":1e2}'),
        (b'{"model":{"id":1},"id":"b"}', "b", b'{"model":{"id":1}}'),
        (b'{"cancel":"a","model":"x"}', None, b'{"cancel":"a","model":"x"}'),
    ],
)
def test_the_body_is_the_message_without_its_id(message: bytes, lane: object, body: bytes) -> None:
    desk = Desk()
    RequestMode("ollama", desk).read(message)()
    (request,) = desk.started
    assert (request.lane, request.named, request.prepare()) == (lane, lane is not None, body)
    assert not desk.said


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"[]",
        b"{",
        b'"x"',
        b'{"id":null}',
        b'{"id":""}',
        b'{"id":true}',
        b'{"id":1.5}',
        b'{"id":"%b"}' % (b"x" * 129),
    ],
)
def test_what_is_no_request_is_an_error(message: bytes) -> None:
    desk = Desk()
    RequestMode("ollama", desk).read(message)()
    assert not desk.started
    (error,) = desk.said
    assert (error["status"], error["code"]) == (400, "invalid_request")


def test_a_message_cancels() -> None:
    desk = Desk()
    mode = RequestMode("ollama", desk)
    mode.read(b'{"cancel":"a"}')()
    mode.read(b'{"cancel":3}')()
    assert desk.cancelled == ["a", 3]
    mode.read(b'{"cancel":[]}')()
    assert desk.said[0]["status"] == 400


def test_a_refusal_has_the_id() -> None:
    desk = Desk()
    desk.full = True
    RequestMode("anthropic", desk).read(b'{"id":"a"}')()
    (error,) = desk.said
    assert (error["id"], error["type"], error["status"]) == ("a", "error", 429)


def test_frames_with_an_id_are_envelopes() -> None:
    request = BodyRequest('q"', b"")
    assert request.frame(b'{"a": 1}') == b'{"id":"q\\"","data":{"a": 1}}'
    assert json.loads(request.frame(b"[DONE]")) == {"id": 'q"', "data": "[DONE]"}
    assert BodyRequest(None, b"").frame(b"[DONE]") == b"[DONE]"
    assert json.loads(BodyRequest(0, b"").error(404, [], b"gone"))["id"] == 0
    assert "id" not in json.loads(BodyRequest(None, b"").error(404, [], b"gone"))
