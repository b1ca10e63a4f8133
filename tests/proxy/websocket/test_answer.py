"""The answer to one request of a socket, up to the one frame that ends it."""

import json
from typing import Any

import pytest

from proxy.kernel.asgi import Receive, Scope, Send
from proxy.kernel.errors import Cancelled, ProxyError
from proxy.kernel.inner_request import inner_scope
from proxy.websocket.answer import Answer
from proxy.websocket.request_mode import BodyRequest
from tests.proxy.websocket.test_session import Socket

LINES = [(b"content-type", b"application/x-ndjson")]
JSON = [(b"content-type", b"application/json")]


async def answered(
    status: int, headers: list[tuple[bytes, bytes]], *parts: bytes, ends: bool = True, reason: ProxyError | None = None
) -> list[Any]:
    """Return what a client hears of an answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        if ends:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    socket = Socket()
    answer = Answer(BodyRequest(None, b"{}"), b"{}", socket, 100)
    await answer.client.run(app, inner_scope("POST", "/api/chat"))
    answer.finish("ollama", reason)
    answer.let_go()
    return socket.said


async def test_a_whole_answer_has_no_frame_beside_it() -> None:
    assert await answered(200, LINES, b'{"a":1}\n', b'{"b":2}\n') == [{"a": 1}, {"b": 2}]
    assert await answered(200, JSON, b'{"a":', b"1}") == [{"a": 1}]


async def test_an_error_is_one_frame() -> None:
    (error,) = await answered(404, JSON, b'{"error":', b'"gone"}')
    assert error == {"error": "gone", "status": 404, "code": "upstream_error"}
    (error,) = await answered(500, [])
    assert error["status"] == 500


@pytest.mark.parametrize(
    ("parts", "ends", "frames"),
    [
        ((b'{"a":1}\n',), False, [{"a": 1}, "upstream_truncated"]),
        ((b'{"a":1}\n', b'{"b"'), False, [{"a": 1}, "upstream_truncated"]),
        ((b'{"a":1}\n', b'{"error":"why"}\n'), False, [{"a": 1}, {"error": "why"}]),
        ((b'{"a":1}\n', b'{"error":"why"}\n'), True, [{"a": 1}, {"error": "why"}]),
        ((), True, ["upstream_truncated"]),
        ((b"x" * 101,), False, ["upstream_truncated"]),
    ],
)
async def test_each_answer_ends_once(parts: tuple[bytes, ...], ends: bool, frames: list[Any]) -> None:
    heard = await answered(200, LINES, *parts, ends=ends)
    assert [frame["code"] if "status" in frame else frame for frame in heard] == frames


async def test_an_answer_that_was_ended_says_why() -> None:
    heard = await answered(200, LINES, b'{"a":1}\n', ends=False, reason=Cancelled("enough"))
    assert (heard[-1]["error"], heard[-1]["status"]) == ("enough", 499)
    assert json.dumps(heard[0]) == '{"a": 1}'
