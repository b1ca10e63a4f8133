"""What the server's connections make of some bytes, held against RFC 9112; for the two targets about requests."""

import re
from typing import Final
from urllib.parse import urlsplit

from tests.fuzz import cuts
from tests.fuzz.oracles import rfc9112
from tests.fuzz.oracles.rfc9112 import Message
from tests.fuzz.served import Got, Served, serve

_PLAIN_LINE: Final = re.compile(rb"(GET|POST|PUT|DELETE|OPTIONS|PATCH) /[A-Za-z0-9/_-]{0,80} HTTP/1\.[01]")
_PLAIN_VALUE: Final = re.compile(rb"[!-~]{0,80}")
_HOSTS: Final = (b"localhost", b"127.0.0.1:11435")
_UNGOVERNED: Final = frozenset({b"x", b"x-a", b"accept", b"user-agent"})
_FRAMING: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})
_ANSWER: Final = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ")


def judge(data: bytes) -> None:
    """Raise AssertionError where the application gets anything else than what RFC 9112 says was sent."""
    whole = serve([data] if data else [])
    expected, malformed = rfc9112.requests(data)
    assert [_as_sent(got) for got in whole.requests] == [_as_read(one) for one in expected[: len(whole.requests)]], (
        f"the application got {whole.requests}, and sent was {expected}"
    )
    if malformed and whole.refused is None:
        behind = len(whole.requests) < len(expected) or _closes(expected)
        assert behind or _waits(data), f"malformed, and not refused: {whole}"
    if len(whole.requests) < len(expected):
        message = expected[len(whole.requests)]
        assert whole.refused is not None or _closes(expected[: len(whole.requests)]), f"left unanswered: {message}"
        assert not _is_plain(message) or _closes(expected[: len(whole.requests)]), f"refused {whole.refused}: {message}"
    _check_answers(whole)
    for pieces in cuts.ways(data):
        served = serve(pieces)
        assert served.requests == whole.requests, f"cut into {pieces}: {served.requests}, whole: {whole.requests}"
        # Which of two mistakes is seen first may depend on how they arrive.
        assert (served.refused is None) == (whole.refused is None), (
            f"cut into {pieces}: refused {served.refused}, whole: {whole.refused}"
        )


def _as_sent(got: Got) -> tuple[object, ...]:
    return got.method, got.target, min(got.version, b"1.1"), _without_upgrade(got.headers), got.body


def _as_read(message: Message) -> tuple[object, ...]:
    method, target, version = message.start
    headers = message.headers
    if not target.startswith(b"/"):  # absolute-form, section 3.2.2
        parts = urlsplit(target)
        if not message.values(b"host"):  # HTTP/1.0 needs none
            headers = [*headers, (b"host", parts.netloc.lower())]
        target = (parts.path or b"/") + (b"?" + parts.query if parts.query else b"")
    target = target.removesuffix(b"?")  # ASGI does not tell an empty query from none
    return method, target, min(version[5:], b"1.1"), _without_upgrade(headers), message.body


def _without_upgrade(headers: object) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name != b"upgrade"]  # type: ignore[attr-defined]


def _is_plain(message: Message) -> bool:
    """Whether nobody can have a reason to refuse it."""
    names = [name for name, _ in message.headers]
    return (
        _PLAIN_LINE.fullmatch(b" ".join(message.start)) is not None
        and message.values(b"host")[:1] != []
        and message.values(b"host")[0] in _HOSTS
        and set(names) <= _UNGOVERNED | _FRAMING
        and all(_PLAIN_VALUE.fullmatch(value) for _, value in message.headers)
        and len(names) <= 50
        and len(message.body) < 10_000
        and all(len(value) < 10 for value in message.values(b"content-length"))
        and len(message.chunks) < 3
        and not message.trailers
        and not message.extended
        and message.skipped < 2
    )


def _closes(messages: list[Message]) -> bool:
    """Whether one of these requests ends the connection."""
    return any(
        message.start[2] == b"HTTP/1.0" or b"close" in b",".join(message.values(b"connection")).lower()
        for message in messages
    )


def _waits(data: bytes) -> bool:
    """Whether what is malformed stands in a head or a line that has not come to its end."""
    return not data.endswith(b"\r\n\r\n")


def _check_answers(served: Served) -> None:
    statuses = [int(found[1]) for found in _ANSWER.finditer(served.written)]
    final = [status for status in statuses if status != 100]
    if served.refused is None:
        assert not [status for status in final if status >= 400], f"{served.written!r}"
