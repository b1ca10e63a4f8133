"""What a request must look like before anything of ours sees it: pure rules over bytes, no sockets, no time.

llhttp, the parser behind httptools, is strict about bytes (control characters, bare CR and LF, folded lines, chunk
sizes). These rules add what it leaves open and what RFC 9110 and 9112 leave to us, always choosing the answer that no
two readers can understand differently: one Host, one length, one encoding, one form of target.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from proxy.asgi import Header
from proxy.errors import Refused

EMPTY_LINE: Final = b"\r\n\r\n"
GOVERNED: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})
"""The fields that say whom a request is for and where it ends."""
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

# Printable ASCII without "#" (a fragment never travels), "\" (some readers take it for "/") and an encoded NUL.
_REQUEST_LINE: Final = re.compile(
    rb'(?:%s) /[!"$&-\[\]-~]*(?:%%(?!00)[!"$&-\[\]-~]*)* HTTP/(1\.[01])\r\n' % "|".join(METHODS).encode(),
)
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Narrower than RFC 3986: no user info, no list, no sub-delimiters; names, addresses, an optional port.
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_UPGRADE: Final = re.compile(rb"(?im)^upgrade[ \t]*:[^\r\n]*\r\n")
_LONGEST_HOST: Final = 261
"""Bytes: a DNS name and a port."""
_LONGEST_LENGTH: Final = 18
"""Decimal digits of a Content-Length: an exabyte, and far from what overflows anywhere."""


def read_request_line(head: bytes | bytearray) -> bytes:
    """Return the version, ``1.0`` or ``1.1``, of a request head that begins with a line we serve; raises Refused."""
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise _explain(bytes(head[: head.find(b"\n") + 1]))
    return line[1]


def check_size(head: bytes | bytearray, max_bytes: int, max_fields: int) -> None:
    """Refuse a head, whole or begun, of more bytes or more header lines than that."""
    if len(head) > max_bytes:
        raise Refused(431, f"the request head is larger than {max_bytes} bytes", code="head_too_large")
    if head.count(b"\n") > max_fields + 2:
        raise Refused(431, f"more than {max_fields} header fields", code="too_many_fields")


def check_beginning(begun: bytes | bytearray) -> None:
    """Refuse now what no further byte can turn into a request: `begun` is a head that has not come to its end.

    Without this a client that ends its lines with LF only, or speaks TLS, would wait for the deadline.
    """
    begun = begun.removeprefix(b"\r\n")
    if not _TOKEN.match(begun) and begun not in (b"", b"\r"):
        raise Refused(400, "this is not an HTTP request", code="malformed_request")
    lines = begun.count(b"\n")
    if lines:
        read_request_line(begun)
        if begun.count(b"\r\n") != lines:
            raise Refused(400, "lines must end with CR LF", code="malformed_request")


def check_fields(governed: Iterable[Header], version: bytes) -> int | None:
    """Return the length of the body in bytes, None where it is chunked; raises Refused.

    Args:
        governed: the fields of a head that are in `GOVERNED`; values may have white space around them.
        version: as `read_request_line` returns it.
    """
    fields: dict[bytes, bytes] = {}
    for name, value in governed:
        if name in fields:
            raise Refused(400, f"more than one {name.decode()} field", code=_CODE_OF[name])
        fields[name] = value.strip(b" \t")
    host = fields.get(b"host")
    if host is None:
        if version == b"1.1":
            raise Refused(400, "an HTTP/1.1 request needs a Host field", code="bad_host")
    elif len(host) > _LONGEST_HOST or not _is_host(host):
        raise Refused(400, "the Host field is not a host name with an optional port", code="bad_host")
    length = fields.get(b"content-length")
    encoding = fields.get(b"transfer-encoding")
    if encoding is not None:
        if length is not None:
            raise Refused(400, "both Content-Length and Transfer-Encoding", code="bad_framing")
        if version == b"1.0":
            raise Refused(400, "HTTP/1.0 has no Transfer-Encoding", code="bad_framing")
        if encoding.lower() != b"chunked":
            raise Refused(400, "the only Transfer-Encoding served is chunked", code="bad_framing")
        return None
    if length is None:
        return 0
    if not length.isdigit() or len(length) > _LONGEST_LENGTH:
        raise Refused(400, "the Content-Length is not a number of bytes", code="bad_framing")
    return int(length)


def without_upgrade(head: bytes) -> bytes:
    """Return a whole head without its Upgrade fields."""
    return _UPGRADE.sub(b"", head)


def pieces(data: bytes) -> Iterator[bytes]:
    """Cut what was read of a chunked body so that the body can end only at the end of a piece.

    A chunked body ends with an empty line (RFC 9112 section 7.1). One that began in the read before ends within the
    first three bytes here; any other stands in `data` as a whole. So a parser fed piece by piece never sees a byte of
    the request behind, without our knowing anything of chunk sizes.
    """
    for at in range(min(3, len(data))):
        yield data[at : at + 1]
    start = 3
    found = data.find(EMPTY_LINE)
    while found >= 0:
        end = found + len(EMPTY_LINE)
        yield data[start:end]
        start = end
        found = data.find(EMPTY_LINE, found + 1)
    if start < len(data):
        yield data[start:]


_CODE_OF: Final = {b"host": "bad_host", b"content-length": "bad_framing", b"transfer-encoding": "bad_framing"}


@lru_cache(maxsize=128)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def _explain(line: bytes) -> Refused:
    """Return why `line` is no request line of ours."""
    method, _, rest = line.partition(b" ")
    version = rest.rpartition(b" ")[2]
    if version not in (b"HTTP/1.0\r\n", b"HTTP/1.1\r\n"):
        return Refused(400, "the first line is not that of an HTTP/1.1 request", code="malformed_request")
    if not _TOKEN.fullmatch(method):
        return Refused(400, "the method is not a token", code="malformed_request")
    if method.decode() not in METHODS:
        allow = {"allow": ", ".join(METHODS)}
        return Refused(405, "this method is not served", code="method_not_allowed", headers=allow)
    return Refused(400, "the request target must be a path of printable ASCII without NUL", code="bad_target")
