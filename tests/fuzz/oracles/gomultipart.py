"""A multipart form as Go reads it: ``mime.ParseMediaType`` and ``multipart.Reader.ReadForm`` of Go 1.26, as a model.

It keeps what a policy cares about: the text values under their names, in order. Texts are bytes here, as in Go.
``tests/fuzz/go`` holds what Go itself said of the kept inputs, and a test compares.
"""

import binascii
import re
from typing import Final

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TYPE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:/[!#$%&'*+.^_`|~0-9A-Za-z-]+)?")
_SPECIALS: Final = b'()<>@,;:\\"/[]?='
_SPACE: Final = b"\t\n\v\f\r "
_MOST_PARTS: Final = 1000
_LONGEST_LINE: Final = 4096  # the reader's buffer


class BadForm(ValueError):
    """Go refuses the form."""


class _Cut(Exception):
    """The form ends within a part's header; Go takes that for its proper end."""


def read_form(content_type: bytes, body: bytes) -> list[tuple[bytes, bytes]]:
    """Return the text values of the form with their names; raises BadForm."""
    kind, parameters = media_type(content_type)
    boundary = parameters.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise BadForm("not a form")
    found: list[tuple[bytes, bytes]] = []
    for number, (header, content) in enumerate(_Parts(boundary, body).read()):
        if number == _MOST_PARTS:
            raise BadForm("too many parts")
        disposition = next((value for name, value in header if name == b"content-disposition"), b"")
        try:
            kind, parameters = media_type(disposition)
        except BadForm:
            continue
        if kind != b"form-data" or not parameters.get(b"name") or parameters.get(b"filename"):
            continue
        encoding = next((value for name, value in header if name == b"content-transfer-encoding"), b"")
        if encoding.lower() == b"quoted-printable":
            if re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", content):
                raise BadForm("an unescaped byte in a quoted-printable part")
            content = binascii.a2b_qp(re.sub(rb"[ \t]+(\r?\n|$)", rb"\1", content))
        found.append((parameters[b"name"], content))
    return found


def media_type(text: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Return the type in lower case and its parameters; raises BadForm where Go returns an error."""
    base = text.partition(b";")[0]
    kind = base.lower().strip(_SPACE)
    if not _TYPE.fullmatch(kind):
        raise BadForm("no media type")
    plain: dict[bytes, bytes] = {}
    starred: dict[bytes, dict[bytes, bytes]] = {}
    rest = text[len(base) :]
    while rest := rest.lstrip(_SPACE):
        parameter = _parameter(rest)
        if parameter is None:
            if rest.strip(_SPACE) == b";":
                break
            raise BadForm("invalid media parameter")
        key, value, rest = parameter
        into = starred.setdefault(key.partition(b"*")[0], {}) if b"*" in key else plain
        if into.get(key, value) != value:
            raise BadForm("duplicate parameter name")
        into[key] = value
    for key, pieces in starred.items():
        joined = _joined(key, pieces)
        if joined is not None:
            plain[key] = joined
    return kind, plain


def _parameter(text: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Read ``; key=value``; return it and what follows, None where it is not there."""
    rest = text.lstrip(_SPACE)
    if rest[:1] != b";":
        return None
    rest = rest[1:].lstrip(_SPACE)
    key = _TOKEN.match(rest)
    if key is None:
        return None
    rest = rest[key.end() :].lstrip(_SPACE)
    if rest[:1] != b"=":
        return None
    rest = rest[1:].lstrip(_SPACE)
    if rest[:1] != b'"':
        token = _TOKEN.match(rest)
        return (key[0].lower(), token[0], rest[token.end() :]) if token else None
    value = bytearray()
    at = 1
    while at < len(rest):
        char = rest[at]
        if char == 0x22:
            return key[0].lower(), bytes(value), rest[at + 1 :]
        if char == 0x5C and at + 1 < len(rest) and rest[at + 1] in _SPECIALS:
            at += 1
            char = rest[at]
        elif char in b"\r\n":
            return None
        value.append(char)
        at += 1
    return None


def _joined(key: bytes, pieces: dict[bytes, bytes]) -> bytes | None:
    """Put a parameter of RFC 2231 together."""
    if key + b"*" in pieces:
        return _decoded(pieces[key + b"*"])
    found: list[bytes] = []
    number = 0
    while True:
        simple = b"%s*%d" % (key, number)
        if simple in pieces:
            found.append(pieces[simple])
        elif simple + b"*" in pieces:
            encoded = pieces[simple + b"*"]
            found.append((_unescaped(encoded) if number else _decoded(encoded)) or b"")
        else:
            return b"".join(found) if number else None
        number += 1


def _decoded(value: bytes) -> bytes | None:
    parts = value.split(b"'", 2)
    return _unescaped(parts[2]) if len(parts) == 3 and parts[0].lower() in (b"us-ascii", b"utf-8") else None


def _unescaped(value: bytes) -> bytes | None:
    if re.search(rb"%(?![0-9A-Fa-f]{2})", value):
        return None
    return re.sub(rb"%(..)", lambda match: bytes([int(match[1], 16)]), value)


class _Parts:
    """Cuts a body into its parts."""

    def __init__(self, boundary: bytes, body: bytes) -> None:
        self._dashes = b"--" + boundary
        self._line_end = b"\r\n"
        self._body = body
        self._at = 0

    def read(self) -> list[tuple[list[tuple[bytes, bytes]], bytes]]:
        """Return header fields and content of each part; raises BadForm."""
        parts: list[tuple[list[tuple[bytes, bytes]], bytes]] = []
        expecting = False
        while True:
            end = self._body.find(b"\n", self._at) + 1
            line = self._body[self._at : end] if end else self._body[self._at :]
            if not end:
                if self._is_final(line):
                    return parts
                raise BadForm("unexpected end")
            if len(line) > _LONGEST_LINE:
                raise BadForm("a line beyond the buffer")
            self._at = end
            if self._is_delimiter(line, first=not parts):
                try:
                    parts.append((self._fields(), self._content()))
                except _Cut:
                    return parts
                expecting = False
            elif self._is_final(line):
                return parts
            elif expecting:
                raise BadForm("expecting a new part")
            elif not parts:
                continue
            elif line == self._line_end:
                expecting = True
            else:
                raise BadForm("unexpected line")

    def _is_final(self, line: bytes) -> bool:
        final = self._dashes + b"--"
        return line.startswith(final) and line[len(final) :].lstrip(b" \t") in (b"", self._line_end)

    def _is_delimiter(self, line: bytes, *, first: bool) -> bool:
        if not line.startswith(self._dashes):
            return False
        rest = line[len(self._dashes) :].lstrip(b" \t")
        if first and rest == b"\n":
            self._line_end = b"\n"
        return rest == self._line_end

    def _fields(self) -> list[tuple[bytes, bytes]]:
        """Read the header of a part, as ``net/textproto`` does."""
        fields: list[tuple[bytes, bytes]] = []
        if self._body[self._at : self._at + 1] in (b" ", b"\t"):
            raise BadForm("a header that begins with a continuation")
        while line := self._header_line():
            while self._body[self._at : self._at + 1] in (b" ", b"\t"):
                line = line.rstrip(b" \t") + b" " + self._header_line().strip(b" \t")
            name, colon, value = line.partition(b":")
            if not colon or not name or not _is_field_name(name):
                raise BadForm("malformed MIME header")
            if any(char < 0x20 and char != 9 for char in value) or b"\x7f" in value:
                raise BadForm("malformed MIME header")
            fields.append((name.lower(), value.strip(b" \t")))
        return fields

    def _header_line(self) -> bytes:
        if self._at == len(self._body):
            raise _Cut
        end = self._body.find(b"\n", self._at) + 1 or len(self._body)
        line, self._at = self._body[self._at : end], end
        return line.removesuffix(b"\n").removesuffix(b"\r") if line.endswith(b"\n") else line

    def _content(self) -> bytes:
        """Read up to the next delimiter, which may be followed by white space or ``--``."""
        start = self._at
        if self._body.startswith(self._dashes, start) and self._ends(start + len(self._dashes)):
            return b""
        delimiter = self._line_end + self._dashes
        at = start
        while (found := self._body.find(delimiter, at)) >= 0:
            if self._ends(found + len(delimiter)):
                self._at = found
                return self._body[start:found]
            at = found + len(delimiter)
        raise BadForm("unexpected end")

    def _ends(self, at: int) -> bool:
        """Whether what follows a delimiter makes it one."""
        after = self._body[at : at + 2]
        return not after or after[:1] in (b" ", b"\t", b"\r", b"\n") or after == b"--"


def _is_field_name(name: bytes) -> bool:
    return re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z -]+", name) is not None  # with a space it is no name Go knows
