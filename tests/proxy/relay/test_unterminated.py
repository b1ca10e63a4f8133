"""What becomes of answers without their terminator, as a table; tests/live/test_unterminated.py shows it on sockets."""

import asyncio
from typing import Any

import httpx
import pytest

from proxy.kernel.errors import Unterminated
from proxy.kernel.exchange import Exchange
from proxy.relay.answer_end import Format, Tail
from proxy.relay.backend_answer import BackendAnswer
from proxy.relay.unterminated import is_passed_on, owes_text, terminated
from proxy.testing import make_exchange, suppose
from proxy.upstream.answer import Answer

LOOP = b'{"response":"a","done":false}\n' * 31
TEXT = b'{"response":"a","done":false}\n{"response":"b","done":false}\n'
DONE = b'{"done":true}\n'


def given(chunk: bytes, layout: Format = "ndjson", *, status: int = 200, **more: Any) -> tuple[BackendAnswer, Tail]:
    async def read() -> bytes:
        return b""

    tail = Tail(layout)
    if chunk:
        tail.add(chunk)
    stream: httpx.AsyncByteStream = more.pop("stream", httpx.ByteStream(b""))
    return BackendAnswer(status, [], chunk, read, stream, layout, **more), tail


@pytest.mark.parametrize(
    ("path", "layout", "chunk", "status", "expected"),
    [
        ("/api/chat", "ndjson", DONE, 200, True),
        ("/api/chat", "ndjson", TEXT, 200, False),
        ("/api/chat", "ndjson", b"", 200, False),
        ("/api/chat", "other", b"", 200, False),
        ("/api/chat", "json", b'{"done":false}', 200, False),
        ("/api/chat", "json", b'{"done":true}', 200, None),
        ("/api/chat", "json", b'{"done":false}', 400, None),
        ("/api/embed", "json", b"", 200, None),
        ("/api/pull", "ndjson", b"", 200, False),
        ("/api/copy", "other", b"", 200, None),
        ("/api/tags", "other", b"{}", 200, None),
    ],
)
def test_what_the_terminator_of_an_answer_is(
    path: str, layout: Format, chunk: bytes, status: int, expected: bool | None
) -> None:
    answer, tail = given(chunk, layout, status=status)
    assert terminated(make_exchange("POST", path), answer, tail.read()) is expected


@pytest.mark.parametrize(
    ("method", "path", "owes"),
    [
        ("POST", "/api/chat", True),
        ("POST", "/v1/responses", True),
        ("POST", "/api/embed", False),
        ("POST", "/api/pull", False),
        ("GET", "/api/tags", False),
        ("POST", "/nowhere", False),
    ],
)
def test_who_owes_text(method: str, path: str, owes: bool) -> None:
    assert owes_text(make_exchange(method, path)) is owes


def asked(rule: Unterminated, path: str = "/api/generate") -> Exchange:
    return suppose(make_exchange("POST", path), unterminated=rule)


@pytest.mark.parametrize(
    ("rule", "path", "chunk", "more", "passes"),
    [
        ("auto", "/api/generate", LOOP, {}, True),
        ("auto", "/api/generate", TEXT, {}, False),
        ("auto", "/api/generate", TEXT, {"holds_back": True}, True),
        ("auto", "/api/generate", TEXT + b'{"resp', {"holds_back": True}, False),
        ("auto", "/api/generate", b"", {}, True),
        ("auto", "/api/generate", b'{"done":false}', {"layout": "json"}, True),
        ("auto", "/api/pull", LOOP, {}, False),
        ("pass", "/api/generate", TEXT, {}, True),
        ("pass", "/api/generate", TEXT + b'{"resp', {}, True),
        ("pass", "/api/pull", TEXT, {}, False),
        ("error", "/api/generate", LOOP, {}, False),
        ("error", "/api/generate", b'{"done":false}', {"layout": "json"}, False),
    ],
)
def test_what_is_passed_on(rule: Unterminated, path: str, chunk: bytes, more: dict[str, Any], passes: bool) -> None:
    answer, tail = given(chunk, **more)
    assert is_passed_on(asked(rule, path), answer, tail, tail.read()) is passes


async def test_the_end_of_a_connection_is_no_clean_end() -> None:
    stream = Answer(None, asyncio.get_running_loop(), reused=False)  # type: ignore[arg-type]
    answer, tail = given(LOOP, stream=stream)
    assert is_passed_on(asked("pass"), answer, tail, tail.read())
    stream.framing = "close"
    assert not is_passed_on(asked("pass"), answer, tail, tail.read())
