"""The frames of errors, as tables."""

from typing import Any

import pytest
from openai.types.responses.responses_server_event import ResponseWsError

from proxy.kernel.asgi import Header
from proxy.websocket.error_frames import is_error, request_error, responses_error

LIMITED: list[Header] = [(b"x-error-code", b"rate_limit_exceeded"), (b"retry-after", b"7"), (b"date", b"today")]


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b'{"error":"no"}', [], {"error": "no", "status": 429, "code": "upstream_error"}),
        (b'{"error":"no","code":"x"}', [], {"error": "no", "status": 429, "code": "x"}),
        (b"plain\n", [], {"error": "plain", "status": 429, "code": "upstream_error"}),
        (b'["odd"]', [], {"error": '["odd"]', "status": 429, "code": "upstream_error"}),
        (
            b'{"error":"no"}',
            LIMITED,
            {"error": "no", "status": 429, "code": "rate_limit_exceeded", "headers": {"retry-after": "7"}},
        ),
        (
            b'{"error":{"message":"no","code":"c"}}',
            [],
            {"error": {"message": "no", "code": "c"}, "status": 429, "code": "c"},
        ),
    ],
)
def test_the_error_of_a_request(body: bytes, headers: list[Header], expected: dict[str, Any]) -> None:
    assert request_error(429, headers, body) == expected


def test_an_error_without_a_text_says_so() -> None:
    assert request_error(500, [], b"")["error"]


@pytest.mark.parametrize("body", [b'{"error":{"message":"no","type":"t","param":"p","code":"c"}}', b"plain", b"{}"])
def test_the_error_event_is_what_the_sdk_knows(body: bytes) -> None:
    event = ResponseWsError.model_validate(responses_error(503, LIMITED, body))
    assert (event.type, event.status) == ("error", 503)
    assert event.error.headers == {"retry-after": "7"}
    assert event.error.code == ("c" if b"message" in body else "rate_limit_exceeded")


def test_the_kind_of_an_error_without_one_follows_the_status() -> None:
    assert responses_error(404, [], b"gone")["error"]["type"] == "invalid_request_error"
    assert responses_error(502, [], b"gone")["error"]["type"] == "server_error"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'{"error":"no"}', True),
        (b'{"type":"error","error":{"type":"x"}}', True),
        (b'{"response":{"error":null}}', False),
        (b'{"error":null}', False),
        (b'{"content":"an \\"error\\""}', False),
        (b'"error"', False),
        (b'{"error"', False),
        (b"", False),
    ],
)
def test_what_is_an_error(data: bytes, error: bool) -> None:
    assert is_error(data) is error
