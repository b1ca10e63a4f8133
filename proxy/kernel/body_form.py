r"""The text fields of a multipart form, read so strictly that no two readers can disagree.

Go accepts much more than browsers and SDKs send: line feeds instead of CRLF, quoted-printable parts, RFC 2231 names
such as ``name*0=mo; name*1=del``, parts that hide behind a repeated header. A policy that reads a form has to see the
field that Ollama will see, so whatever is not in the plain form of RFC 7578 is refused.

Reading is linear in the bytes of the body: each byte is looked at a bounded number of times, no rest of the body is
ever copied, and a form of more parts, longer headers or more text than any transcription needs is refused where the
bound is passed.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from proxy.kernel.asgi import Scope, header_values
from proxy.kernel.errors import Refused

# A value without quotes is a token (RFC 9110 section 5.6.2); Go takes no other character either.
_PARAMETER: Final = rb';[ \t]*([a-zA-Z-]+)=("[^"\\\x00-\x1f\x7f]*"|[!#$%&\'*+.^_`|~0-9A-Za-z-]+)[ \t]*'
_CONTENT_TYPE: Final = re.compile(rb"multipart/form-data[ \t]*((?:" + _PARAMETER + rb")+)", re.IGNORECASE)
_DISPOSITION: Final = re.compile(rb"form-data[ \t]*((?:" + _PARAMETER + rb")+)", re.IGNORECASE)
_EACH: Final = re.compile(_PARAMETER)
_BOUNDARY: Final = re.compile(rb"[0-9A-Za-z'()+_,./:=?-]{1,70}")  # RFC 2046 §5.1.1, without its space
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # what RFC 9110 section 5.5 and Go allow in no value
PARTS: Final = 1000
"""Parts of one form; Go's mime/multipart reads no more either (``multipartmaxparts``)."""
HEADERS: Final = 10_000
"""Header lines of all parts together, as in Go (``multipartmaxheaders``)."""
TEXT: Final = 1024 * 1024
"""Bytes of all headers and text fields together: a transcription has a prompt and a handful of words."""
_HEAD_LIMIT: Final = 16 * 1024
"""Bytes of the header of one part."""
_FIELD_LIMIT: Final = 64 * 1024
"""Bytes of one text field."""
_STRIDE: Final = 1024 * 1024
"""Bytes searched in one call; other threads get Python's lock in between."""


class Field(NamedTuple):
    """A text field: its name, its value, and where the value stands in the body."""

    name: str
    value: str
    start: int
    end: int


class FilePart(NamedTuple):
    """A file in a form: the name of its part, its own name, and where its contents stand in the body."""

    name: str
    filename: str
    start: int
    end: int


def fields(body: bytes, scope: Scope) -> list[Field]:
    """Return the text fields of the form in `body`, in order; files are passed over. Raises Refused, like `parts`."""
    return [part for part in parts(body, scope) if isinstance(part, Field)]


def parts(body: bytes, scope: Scope) -> list[Field | FilePart]:
    """Return the text fields and the files of the form in `body`, in order.

    Raises:
        Refused: 400. Not ``multipart/form-data``, not in its plain form, or beyond a bound: `PARTS`, `HEADERS`, `TEXT`,
            16 KiB of header for a part, 64 KiB for a text field.
    """
    delimiter = b"--" + _boundary(scope)
    found: list[Field | FilePart] = []
    text = headers = 0
    for start, end in _parts(body, delimiter):
        head_end = body.find(b"\r\n\r\n", start, min(end, start + _HEAD_LIMIT))
        if head_end < 0:
            raise _refused("a part has no header")
        headers += body.count(b"\r\n", start, head_end) + 1
        if headers > HEADERS:
            raise _refused(f"its parts have more than {HEADERS} header lines in all")
        name, filename = _disposition(body[start:head_end])
        size = 0 if filename else end - head_end - 4
        text += head_end - start + size
        if size > _FIELD_LIMIT:
            raise _refused(f"a text field is longer than {_FIELD_LIMIT} bytes")
        if text > TEXT:
            raise _refused(f"its headers and text fields are longer than {TEXT} bytes in all")
        if filename:
            found.append(FilePart(name, filename, head_end + 4, end))
        else:
            try:
                found.append(Field(name, body[head_end + 4 : end].decode(), head_end + 4, end))
            except UnicodeDecodeError:
                raise _refused("a text field is not UTF-8") from None
    return found


def _boundary(scope: Scope) -> bytes:
    types = header_values(scope["headers"], b"content-type")
    match = _CONTENT_TYPE.fullmatch(types[0].strip()) if len(types) == 1 else None
    boundary = _parameters(match[1]).get(b"boundary", b"") if match else b""
    if not _BOUNDARY.fullmatch(boundary):
        raise _refused("the Content-Type must be multipart/form-data with a boundary")
    return boundary


def with_field(body: bytes, scope: Scope, name: str, value: bytes) -> bytes:
    """Return the form in `body` with `value` in its first text field `name`; every other byte stays as it is.

    Raises:
        Refused: 400, like `fields`.
        StopIteration: there is no such field.
    """
    field = next(field for field in fields(body, scope) if field.name == name)
    whole = memoryview(body)
    return b"".join((whole[: field.start], value, whole[field.end :]))


def _parts(body: bytes, delimiter: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each part begins and ends. The delimiter may stand nowhere else, not even as part of a line."""
    if not body.startswith(delimiter + b"\r\n"):
        raise _refused("it must begin with its boundary")
    start = len(delimiter) + 2
    for _ in range(PARTS):
        at = _find(body, delimiter, start)
        after = at + len(delimiter)
        # The line break before the delimiter belongs to it, also where the part is empty.
        if at < 0 or body[at - 2 : at] != b"\r\n" or at - 2 < start:
            raise _refused("a boundary is missing or misplaced")
        yield start, at - 2
        if body[after : after + 2] == b"--" and len(body) - after <= 4 and body[after + 2 :] in (b"", b"\r\n"):
            return
        if body[after : after + 2] != b"\r\n":
            raise _refused("a boundary is missing or misplaced")
        start = after + 2
    raise _refused(f"it has more than {PARTS} parts")


def _find(body: bytes, delimiter: bytes, start: int) -> int:
    """Return where `delimiter` stands next, -1 where it does not: `bytes.find`, in strides."""
    last = len(body) - len(delimiter)
    while start <= last:
        at = body.find(delimiter, start, start + _STRIDE + len(delimiter) - 1)
        if at >= 0:
            return at
        start += _STRIDE
    return -1


def _disposition(head: bytes) -> tuple[str, str]:
    """Return a part's name, and the name of the file that it is; that is empty where it is none."""
    seen: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        key = name.lower()
        if not colon or not re.fullmatch(rb"[a-z-]+", key) or key in seen or _CONTROL.search(value):
            raise _refused("a part has a malformed or repeated header")
        seen[key] = value.strip(b" \t")
    if seen.get(b"content-transfer-encoding", b"binary").lower() not in (b"7bit", b"8bit", b"binary"):
        raise _refused("a part is encoded")
    match = _DISPOSITION.fullmatch(seen.get(b"content-disposition", b""))
    parameters = _parameters(match[1]) if match else {}
    if b"name" not in parameters or parameters.keys() - {b"name", b"filename"}:
        raise _refused('a part must have a Content-Disposition of the form: form-data; name="..."')
    try:
        return parameters[b"name"].decode(), parameters.get(b"filename", b"").decode("utf-8", "replace")
    except UnicodeDecodeError:
        raise _refused("the name of a part is not UTF-8") from None


def _parameters(text: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for name, value in _EACH.findall(text):
        if name.lower() in found:
            raise _refused("a parameter is repeated")
        found[name.lower()] = value.strip(b'"')
    return found


def _refused(why: str) -> Refused:
    return Refused(400, f"the form in the request body cannot be read safely: {why}")
