"""Answers of backends: what is read in them is what RFC 9112 says was sent, however it is cut, and no byte more."""

import asyncio
import re
from dataclasses import dataclass
from functools import cache
from typing import Final

from proxy.upstream.answer import Answer
from proxy.upstream.failures import BadResponse
from proxy.upstream.parser import AnswerParser
from tests.fuzz import cuts
from tests.fuzz.oracles import rfc9112
from tests.support.no_source import NoSource

HEAD: Final = b"?"
"""In front of an input: the request was HEAD."""

TOKENS = (
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n",
    b"HTTP/1.1 304 Not Modified\r\n",
    b"HTTP/2.0 200 OK\r\n",
    b"RTSP/1.0 200 OK\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    b"X: y\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    b"0\r\n",
    b"1;a=b\r\nx\r\n",
    b"abc",
    b" ",
    b"\x00",
    b"\xff",
)

_UNREMARKABLE: Final = frozenset({b"content-length", b"transfer-encoding", b"content-type", b"x", b"date"})


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


_LYING_TRAILER: Final = re.compile(rb"\n0+[^\n]*\n(?:[^\n]*\n)*(?:content-length|transfer-encoding)", re.IGNORECASE)


@dataclass
class Parsed:
    """What became of an answer's bytes, all that the parser says of it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    framing: str
    body: bytes
    complete: bool
    trusted: bool
    refused: bool


def check(data: bytes) -> None:
    """Raise where an answer is read as something else than what was sent, or a connection is trusted that is off."""
    bodiless = data.startswith(HEAD)
    data = data.removeprefix(HEAD)
    if not data:
        return
    whole = _parse([data], bodiless)
    reader = rfc9112.Reader(data)
    try:
        sent = reader.response(bodiless=bodiless)
    except rfc9112.Incomplete:
        assert not whole.status, f"a head that is not over was read: {whole}"
    except rfc9112.Malformed as error:
        assert whole.refused or not whole.complete or _ends_early(whole, data), f"read to its end, and {error}: {whole}"
        assert not whole.trusted, f"the connection is used again, and {error}"
    else:
        _compare(whole, sent, reader.rest, data)
        assert not whole.refused or not _is_plain(sent, data), f"refused: {sent}"
    for pieces in cuts.ways(data):
        _compare_cut(_parse(pieces, bodiless), whole, pieces)


def _compare(ours: Parsed, sent: rfc9112.Message, rest: bytes, data: bytes) -> None:
    if ours.status:
        assert ours.status == int(sent.start[1]), f"status {ours.status}, sent {sent.start}"
        assert ours.headers == sent.headers, f"headers {ours.headers}, sent {sent.headers}"
        assert ours.framing == sent.framing, f"framed by {ours.framing}, sent {sent.framing}"
    assert sent.body.startswith(ours.body), f"body {ours.body!r}, sent {sent.body!r}"
    if not ours.refused and ours.status:
        # A chunk counts when it is whole; what was refused behind it may have kept the last one back.
        whole = b"".join(sent.chunks[:-1]) if sent.framing == "chunked" and not sent.complete else sent.body
        assert ours.body.startswith(whole), f"body {ours.body!r}, sent {sent.body!r}"
        assert ours.complete == sent.complete or _ends_early(ours, data), f"complete: {ours.complete}, sent: {sent}"
    if ours.trusted:
        assert not rest.strip(b"\r\n"), f"the connection is used again, with {rest!r} in it"
        assert b"close" not in b",".join(sent.values(b"connection")).lower().replace(b" ", b"").split(b",")


def _ends_early(ours: Parsed, data: bytes) -> bool:
    """Whether it was read to the last chunk only: of trailers that say how long the body is we read no more."""
    return ours.complete and not ours.trusted and _LYING_TRAILER.search(data) is not None


def _is_plain(sent: rfc9112.Message, data: bytes) -> bool:
    """Whether nobody can have a reason to refuse it; trailers, whatever they say, are none."""
    version, status, reason = sent.start
    return (
        not sent.skipped
        and version in (b"1.1", b"1.0")
        and 200 <= int(status) < 600
        and reason.isalpha()
        and (sent.complete or sent.framing in ("close", "length"))
        and not sent.extended
        and data.count(b"HTTP/") == 1
        and len(data) < 2000
        and len(sent.headers) + len(sent.trailers) < 40
        and {name for name, _ in sent.headers} <= _UNREMARKABLE
        and all(value.isalnum() for _, value in [*sent.headers, *sent.trailers])
    )


def _compare_cut(cut: Parsed, whole: Parsed, pieces: list[bytes]) -> None:
    assert cut.refused == whole.refused, f"cut into {pieces}: {cut}, whole: {whole}"
    # Empty lines behind an answer are skipped where they come with it; where they come later, the connection is closed.
    lines_behind = pieces[-1].endswith(b"\n") or pieces[-1].endswith(b"\r")
    assert cut.trusted == whole.trusted or (lines_behind and not cut.trusted), f"{pieces}: {cut}, whole: {whole}"
    cut.trusted = whole.trusted
    if whole.refused:  # what came before was handed on, as far as it had come
        assert cut.body.startswith(whole.body) or whole.body.startswith(cut.body)
    else:
        assert cut == whole, f"cut into {pieces}: {cut}, whole: {whole}"


def _parse(pieces: list[bytes], bodiless: bool) -> Parsed:
    """Feed the pieces until something is wrong or the answer is over, as a connection does."""
    answer = Answer(NoSource(), _loop(), reused=False)
    parser = AnswerParser(answer, bodiless=bodiless, head_bytes=8192, head_fields=50)
    refused = surplus = False
    try:
        for piece in pieces:
            if parser.complete:  # nobody waits for more; a connection that sends it is closed
                surplus = True
                break
            parser.feed(piece)
    except BadResponse:
        refused = True
    parsed = Parsed(
        answer.status,
        answer.headers if parser.head_in else [],
        answer.framing,
        b"".join(_taken(answer)),
        parser.complete,
        parser.complete and parser.keep_alive and not (parser.surplus or surplus or refused),
        refused,
    )
    parser.close()
    return parsed


def _taken(answer: Answer) -> list[bytes]:
    """Take the items that are there; reading them never waits."""
    items: list[bytes] = []
    answer.end(None)
    while True:
        try:
            answer.read().send(None)
        except StopIteration as done:
            if not done.value:
                return items
            items.append(done.value)
