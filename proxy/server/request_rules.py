"""The rules for the bytes of a request: pure functions, no sockets, no time.

llhttp, the parser behind httptools, is strict about bytes (control characters, bare CR and LF, folded lines, chunk
sizes). These rules decide what llhttp leaves open and what RFC 9110 and 9112 leave to us, always so that no two readers
can understand a request differently: one Host, one length, one encoding, one form of target.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from proxy.kernel.asgi import Header
from proxy.kernel.errors import Refused

EMPTY_LINE: Final = b"\r\n\r\n"
GOVERNED: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})
"""The fields that name the host of a request and its end."""
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

# Printable ASCII without "#" (a fragment never travels), "\" (some readers take it for "/") and an encoded NUL.
_TARGET: Final = rb'[!"$&-\[\]-~]*(?:%(?!00)[!"$&-\[\]-~]*)*'
# A host by RFC 3986 section 3.2.2: a registered name, or an IPv6 address, with a zone or without. Left out are a
# comma, by which intermediaries join fields that were sent twice, and encoded delimiters and control characters, which
# are others for whoever decodes before he splits. A port has digits; there is no user info.
_NAME: Final = rb"(?:[A-Za-z0-9._~!$&'()*+;=-]|%(?![01]|2[035CcFf]|3[AaFf]|40|5[B-Db-d]|7[Ff])[0-9A-Fa-f]{2})+"
_HOST: Final = re.compile(rb"(?:%s|\[[0-9A-Fa-f:.]+(?:%%[A-Za-z0-9._~-]+)?\])(?::[0-9]{1,5})?" % _NAME)
_REQUEST_LINE: Final = re.compile(rb"(?:%s) /%s HTTP/(1\.[01])\r\n" % ("|".join(METHODS).encode(), _TARGET))
_OTHER_LINE: Final = re.compile(
    rb"(%s) (?:(?i:(https?))://(%s))?((?:[/?]%s)?) HTTP/1\.([0-9])\r\n"
    % ("|".join(METHODS).encode(), _HOST.pattern, _TARGET)
)
"""Forms that are seldom seen: a target that names a scheme and a host, and minor versions yet to come."""
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VERSION: Final = re.compile(rb"HTTP/1\.[0-9]\r\n")
_DEFAULT_PORT: Final = {b"http": b"80", b"https": b"443"}
_UPGRADE: Final = re.compile(rb"(?im)^upgrade[ \t]*:[^\r\n]*\r\n")
_LONGEST_HOST: Final = 261
"""Bytes: a DNS name and a port."""
_LONGEST_LENGTH: Final = 18
"""Decimal digits of a Content-Length: an exabyte, and far from what overflows anywhere."""


class Head(NamedTuple):
    """A head whose request line is one we serve.

    Attributes:
        data: the head as llhttp reads it: its target a path, its version 1.0 or 1.1.
        version: ``1.0`` or ``1.1``.
        hosts: the host that the target names, as a Host field may spell it, in lower case; empty where it names none.
    """

    data: bytes
    version: bytes
    hosts: tuple[bytes, ...] = ()


def open_head(head: bytes) -> Head:
    """Return `head`, whole or begun, once it has a line; raises Refused where that is none that we serve.

    A target in absolute-form is served (RFC 9112 section 3.2.2); whether it names us is checked with the fields. A
    higher minor version is read as 1.1, the highest that we know (RFC 9110 section 2.5).
    """
    line = _REQUEST_LINE.match(head)
    if line is not None:
        return Head(head, line[1])
    line = _OTHER_LINE.match(head)
    if line is None or not (line[3] or line[4].startswith(b"/")):
        raise _explain(head[: head.find(b"\n") + 1])
    method, scheme, authority, path, minor = line.groups()
    version = b"1.0" if minor == b"0" else b"1.1"
    path = path if path.startswith(b"/") else b"/" + path
    data = b"%s %s HTTP/%s\r\n%s" % (method, path, version, head[line.end() :])
    return Head(data, version, () if authority is None else _spellings(authority.lower(), scheme.lower()))


def check_size(head: bytes | bytearray, max_bytes: int, max_fields: int) -> None:
    """Refuse a head, whole or begun, of more bytes or more header lines than that."""
    if len(head) > max_bytes:
        raise Refused(431, f"the request head is larger than {max_bytes} bytes", code="head_too_large")
    if head.count(b"\n") > max_fields + 2:
        raise Refused(431, f"more than {max_fields} header fields", code="too_many_fields")


def check_beginning(begun: bytes | bytearray) -> None:
    """Refuse a head that is not whole yet and that no further byte can turn into a request.

    Without this a client that ends its lines with LF only, or speaks TLS, would wait for the deadline.
    """
    begun = begun.removeprefix(b"\r\n")
    if not _TOKEN.match(begun) and begun not in (b"", b"\r"):
        raise Refused(400, "this is not an HTTP request", code="malformed_request")
    lines = begun.count(b"\n")
    if lines:
        open_head(bytes(begun))
        if begun.count(b"\r\n") != lines:
            raise Refused(400, "lines must end with CR LF", code="malformed_request")


def check_fields(governed: Iterable[Header], version: bytes, hosts: tuple[bytes, ...] = ()) -> int | None:
    """Return the length of the body in bytes, None where it is chunked; raises Refused.

    Args:
        governed: the fields of a head that are in `GOVERNED`; values may have white space around them.
        version: see `Head`.
        hosts: see `Head`. The target would count in place of a Host that differs (RFC 9112 section 3.2.2), but clients
            must send the same in both (section 3.2), and two names can be understood differently.
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
    elif hosts and host.lower() not in hosts:
        raise Refused(400, "the request target is for another host than the Host field says", code="bad_target")
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


def _spellings(authority: bytes, scheme: bytes) -> tuple[bytes, ...]:
    """Return a host with its port, as it stands and, where the port is that of the scheme, with and without it."""
    name, colon, port = authority.rpartition(b":")
    if not colon or b"]" in port:
        return authority, b"%s:%s" % (authority, _DEFAULT_PORT[scheme])
    return (authority, name) if port == _DEFAULT_PORT[scheme] else (authority,)


def _explain(line: bytes) -> Refused:
    """Return the error for a `line` that is no request line we serve."""
    method, _, rest = line.partition(b" ")
    version = rest.rpartition(b" ")[2]
    if not _VERSION.fullmatch(version):
        return Refused(400, "the first line is not that of an HTTP/1.1 request", code="malformed_request")
    if not _TOKEN.fullmatch(method):
        return Refused(400, "the method is not a token", code="malformed_request")
    if method.decode() not in METHODS:
        allow = {"allow": ", ".join(METHODS)}
        return Refused(405, "this method is not served", code="method_not_allowed", headers=allow)
    message = "the request target must be a path, or a URL of this host, of printable ASCII without NUL"
    return Refused(400, message, code="bad_target")
