"""Bytes from a backend → one `Answer`, with httptools; whatever is not plain HTTP/1.1 is a `BadResponse`.

httptools (llhttp in its strict mode) refuses by itself what desynchronises connections: Content-Length twice, malformed
or next to Transfer-Encoding; bad chunk sizes and endings; folded lines, bare CR or LF, control characters, a space
before the colon. What it lets pass and we do not: a Transfer-Encoding but one ``chunked``, or in HTTP/1.0; versions
other than 1.0 and 1.1; statuses outside 200 to 599 after the interim ones; switching protocols; anything before the
status line; heads, interim responses and trailers without bound.
"""

from typing import Final

import httptools

from proxy.upstream.answer import Answer
from proxy.upstream.failures import BadResponse

ITEM: Final = 64 * 1024
"""Bytes up to which a chunk always comes out as one item."""
_INTERIM: Final = 8
"""Responses with a 1xx status that may precede the real one."""
_NO_BODY: Final = frozenset((204, 304))


class AnswerParser:
    """Parses one response into `answer`; made anew for each, so that nothing of one can reach the next.

    Args:
        answer: where head and items go.
        bodiless: whether the response has no body whatever its head says (the request was HEAD).
        head_bytes: how large names and values may be in sum, and how many bytes may come without one of the body.
        head_fields: how many header fields there may be.

    Attributes:
        begun: whether any byte came.
        head_in: whether status and headers are in.
        complete: whether the whole response is in.
        keep_alive: whether the backend will take another request after it.
        surplus: whether more came than the response; the connection is then not to be trusted.
    """

    __slots__ = (
        "_answer",
        "_bodiless",
        "_chunked",
        "_field_bytes",
        "_head_bytes",
        "_head_fields",
        "_http",
        "_interim",
        "_length",
        "_overhead",
        "_parts",
        "_parts_size",
        "begun",
        "complete",
        "head_in",
        "keep_alive",
        "surplus",
    )

    def __init__(self, answer: Answer, *, bodiless: bool, head_bytes: int, head_fields: int) -> None:
        self.begun = False
        self.head_in = False
        self.complete = False
        self.keep_alive = False
        self.surplus = False
        self._answer = answer
        self._bodiless = bodiless
        self._head_bytes = head_bytes
        self._head_fields = head_fields
        self._field_bytes = 0
        self._interim = 0
        self._length = False
        self._chunked = False
        self._parts: list[bytes] = []  # the chunk that is coming in
        self._parts_size = 0
        self._overhead = 0  # bytes since the last one of the body
        self._http = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take `data`, which is not empty, from the socket.

        Raises:
            BadResponse: it is not HTTP/1.1, or exceeds a bound. What came before it was handed on.
        """
        if not self.begun:
            self.begun = True
            if data[0] != 0x48:  # "H": llhttp would skip empty lines, and read RTSP
                raise _bad("it does not begin with HTTP/")
        self._overhead += len(data)
        try:
            self._http.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._in_trailers(error):
                self.complete = True
            if not self.complete:
                ours = error.__context__
                raise (ours if isinstance(ours, BadResponse) else _bad(str(error))) from error
            self.surplus = True
        if self._overhead > self._head_bytes and not self.complete:
            raise _bad(f"more than {self._head_bytes} bytes of head, chunk framing or trailers")

    def _in_trailers(self, error: Exception) -> bool:
        """Return whether llhttp refuses a trailer field for what it would mean in a head.

        A Content-Length there frames nothing (RFC 9110 section 6.5.1). llhttp finds one beside a Transfer-Encoding only
        between field names, and behind the head of a chunked answer that is behind its last chunk: the body is whole.
        """
        return self.head_in and self._chunked and "Content-Length" in str(error)

    def close(self) -> None:
        """Drop httptools' parser, which refers back to this one: no garbage cycle for each answer."""
        del self._http

    # httptools calls

    def on_message_begin(self) -> None:
        """Refuse a second response; a status line begins."""
        if self.complete:
            raise _bad("more than one response")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field; drop a trailer field."""
        if self.head_in:
            return
        headers = self._answer.headers
        self._field_bytes += len(name) + len(value)
        if self._field_bytes > self._head_bytes or len(headers) == self._head_fields:
            raise _bad(f"more than {self._head_fields} header fields or {self._head_bytes} bytes of them")
        name = name.lower()
        if name == b"content-length":
            self._length = True
        elif name == b"transfer-encoding":
            if self._chunked or value.lower() != b"chunked":
                raise _bad("its Transfer-Encoding is not one 'chunked'")
            self._chunked = True
        headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Take status and framing: a head is complete."""
        status = self._http.get_status_code()
        if status < 200:
            self._skip(status)
            return
        version = self._http.get_http_version()
        if status > 599 or version not in ("1.1", "1.0") or (self._chunked and version == "1.0"):
            raise _bad(f"status {status} in HTTP/{version}{' with Transfer-Encoding' if self._chunked else ''}")
        self.keep_alive = self._http.should_keep_alive()
        self.head_in = True
        self._overhead = 0
        answer = self._answer
        answer.status = status
        if version == "1.0":
            answer.version = b"HTTP/1.0"
        if self._bodiless or status in _NO_BODY:
            # llhttp waits for chunks all the same: what it takes for the beginning of one is surplus nobody sees.
            self.keep_alive &= not self._chunked
            self._chunked = False
            self.complete = True
        else:
            answer.framing = "chunked" if self._chunked else "length" if self._length else "close"
        answer.begin()

    def on_body(self, data: bytes) -> None:
        """Take bytes of the body: a whole chunk, or a part of one."""
        self._overhead = 0
        if self._chunked:
            self._parts.append(data)
            self._parts_size += len(data)
            if self._parts_size > ITEM:
                self.on_chunk_complete()
        elif self.complete:
            self.surplus = True
        else:
            self._answer.put(data)

    def on_chunk_complete(self) -> None:
        """Hand on a chunk; the last one is empty."""
        parts = self._parts
        if parts:
            self._answer.put(parts[0] if len(parts) == 1 else b"".join(parts))
            parts.clear()
            self._parts_size = 0

    def on_message_complete(self) -> None:
        """Note that the body is complete, or that an interim response is over."""
        if self.head_in:
            self.complete = True

    def _skip(self, status: int) -> None:
        self._interim += 1
        if status < 100 or status == 101 or self._interim > _INTERIM:
            raise _bad(f"status {status}, or more than {_INTERIM} interim responses")
        self._answer.headers.clear()
        self._length = self._chunked = False


def _bad(what: str) -> BadResponse:
    return BadResponse(f"the backend's answer is not accepted: {what}", sent=True, received=True)
