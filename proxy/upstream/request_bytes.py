"""An `httpx.Request` as the bytes that go to a backend: exactly its target, headers and body, or not at all.

Nothing is added, dropped, reordered or rewritten. A request that the backend could read differently (a line break in a
value, two lengths, a body without framing) is refused with `Unsendable`, so that one request can never become two.
"""

from collections.abc import AsyncIterable
from typing import Final, NamedTuple

import httpx

from proxy.kernel.asgi import Header
from proxy.upstream.failures import Unsendable

_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""RFC 9110, section 5.6.2: what methods and field names are made of."""
_VISIBLE: Final = bytes(range(0x21, 0x7F))
_TEXT: Final = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
"""RFC 9110, section 5.5: what field values are made of."""


class Upload(NamedTuple):
    """A request body that is not in memory."""

    stream: AsyncIterable[bytes]
    length: int | None
    """The caller's Content-Length, in bytes; None if the body goes out in chunks."""


class Outgoing(NamedTuple):
    """A request, ready to be written."""

    head: bytes
    body: bytes
    """The whole body with its framing; empty if there is none or if it is an upload."""
    upload: Upload | None
    bodiless: bool
    """Whether the answer has no body, whatever its headers say: the answer to HEAD has none."""


def encode(request: httpx.Request) -> Outgoing:
    """Return the bytes to write for `request`. The target is ``extensions["target"]``, else that of the URL.

    Raises:
        Unsendable: a part of it is not what RFC 9112 allows a client to send.
    """
    target: bytes = request.extensions.get("target") or request.url.raw_path
    method = request.method.encode("latin-1", "replace")
    if not method or method.translate(None, _TOKEN) or method == b"CONNECT":
        raise Unsendable(f"the method {request.method!r} cannot be sent")
    if target[:1] != b"/" or target.translate(None, _VISIBLE):
        raise Unsendable("the target is not a path of visible ASCII characters")
    headers = request.headers.raw
    head = _head(b"%b %b HTTP/1.1" % (method, target), headers)
    length, chunked = _framing(headers)
    stream = request.stream
    if isinstance(stream, httpx.ByteStream):
        return Outgoing(head, _whole(b"".join(stream), length, chunked), None, method == b"HEAD")
    if not isinstance(stream, AsyncIterable):
        raise Unsendable("the body is a blocking stream")
    if length is None and not chunked:
        raise Unsendable("a streamed body needs Content-Length or Transfer-Encoding: chunked")
    return Outgoing(head, b"", Upload(stream, length), method == b"HEAD")


def chunk(data: bytes) -> bytes:
    """Return `data`, which is not empty, as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK: Final = b"0\r\n\r\n"


def _head(start_line: bytes, headers: list[Header]) -> bytes:
    names = [name for name, _ in headers]
    if b"" in names or b"".join(names).translate(None, _TOKEN):
        raise Unsendable("a header's name is not a token")
    lines = [b"%b: %b" % pair for pair in headers]
    head = b"\r\n".join([start_line, *lines, b"\r\n"])
    # All that is left without the text is our own line ends; one look at the whole instead of one at each value.
    if head.translate(None, _TEXT) != b"\r\n" * (len(headers) + 2):
        raise Unsendable("a header's value holds a line break or another control character")
    return head


def _framing(headers: list[Header]) -> tuple[int | None, bool]:
    length: int | None = None
    chunked = False
    for name, value in headers:
        size = len(name)
        if size == 14 and name.lower() == b"content-length":
            if length is not None or not value.isdigit() or len(value) > 18:
                raise Unsendable("Content-Length is not one plain number")
            length = int(value)
        elif size == 17 and name.lower() == b"transfer-encoding":
            if chunked or value.lower() != b"chunked":
                raise Unsendable("Transfer-Encoding is not one 'chunked'")
            chunked = True
    if chunked and length is not None:
        raise Unsendable("both Content-Length and Transfer-Encoding are set")
    return length, chunked


def _whole(body: bytes, length: int | None, chunked: bool) -> bytes:
    if chunked:
        return chunk(body) + LAST_CHUNK if body else LAST_CHUNK
    if len(body) != (length or 0):
        raise Unsendable(f"the body has {len(body)} bytes, its Content-Length says {length}")
    return body
