"""HTTP/1.1 messages, read as RFC 9112 writes them and no other way.

Where the RFC lets a recipient choose between mending and refusing, this reader refuses: whoever reads the same bytes
and mends them may understand something else than the next one.
"""

import re
from dataclasses import dataclass, field
from typing import Final

Header = tuple[bytes, bytes]

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(rb"[\t \x21-\x7e\x80-\xff]*")  # RFC 9110 section 5.5
_TARGET: Final = re.compile(rb"[\x21-\x7e]+")
_VERSION: Final = re.compile(rb"HTTP/1\.[0-9]")
_STATUS_LINE: Final = re.compile(rb"HTTP/(1\.[0-9]) ([0-9]{3})(?: ([^\r\n]*))?")  # a client ignores the reason
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]+)((?:[ \t]*;[\t \x21-\x7e\x80-\xff]*)?)")  # extensions not looked into


class Malformed(Exception):
    """Not what the RFC's grammar allows, or what it lets a strict recipient refuse."""


class Incomplete(Exception):
    """More bytes are needed."""


@dataclass
class Message:
    """A request or a response.

    Attributes:
        start: the parts of the first line: method, target, version; or version, status, reason.
        headers: names in lower case, values without the white space around them.
        framing: ``length``, ``chunked``, ``close`` (it ends with the connection), or ``none``.
        body: the content, as far as it is there.
        complete: whether the end is there.
        chunks: those of a chunked body.
        trailers: the fields behind it, which do not count.
        extended: whether a chunk has extensions.
        skipped: how many empty lines stood in front of a request.
    """

    start: tuple[bytes, bytes, bytes]
    headers: list[Header]
    framing: str = "none"
    body: bytes = b""
    complete: bool = False
    chunks: list[bytes] = field(default_factory=list)
    trailers: list[Header] = field(default_factory=list)
    extended: bool = False
    skipped: int = 0

    def values(self, name: bytes) -> list[bytes]:
        """Return all values of a field."""
        return [value for key, value in self.headers if key == name]


class Reader:
    """Reads messages from bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def rest(self) -> bytes:
        """What is not read yet."""
        return self.data[self.at :]

    def request(self) -> Message:
        """Read one request with its body; raises Malformed, Incomplete."""
        skipped = 0
        while self.data.startswith(b"\r\n", self.at):  # section 2.2
            self.at += 2
            skipped += 1
        parts = self._line().split(b" ")
        if len(parts) != 3:
            raise Malformed("a request line has three parts")
        method, target, version = parts
        if not _TOKEN.fullmatch(method) or not _TARGET.fullmatch(target) or not _VERSION.fullmatch(version):
            raise Malformed("not a request line")
        message = Message((method, target, version), self._fields(), skipped=skipped)
        hosts = message.values(b"host")
        if len(hosts) > 1 or (not hosts and version != b"HTTP/1.0"):  # section 3.2
            raise Malformed("one Host is needed")
        message.framing = self._framing(message, old=version == b"HTTP/1.0") or "none"
        self._body(message)
        return message

    def response(self, *, bodiless: bool = False) -> Message:
        """Read one response that is not interim, with what is there of its body; raises Malformed, Incomplete."""
        skipped = 0
        while True:
            match = _STATUS_LINE.fullmatch(self._line())
            if match is None:
                raise Malformed("not a status line")
            version, status = match[1], int(match[2])
            message = Message((version, match[2], match[3] or b""), self._fields())
            if status >= 200:
                break
            if status < 100 or status == 101:
                raise Malformed("no interim response of HTTP")
            while self.data[self.at : self.at + 1] in (b"\r", b"\n"):  # llhttp passes over them
                self.at += 1
                skipped += 1
        framing = self._framing(message, old=version == b"1.0")
        message.skipped = skipped
        message.framing = "none" if bodiless or status in (204, 304) else framing or "close"
        self._body(message)
        return message

    def _line(self) -> bytes:
        end = self.data.find(b"\r\n", self.at)
        if end < 0:
            if re.search(rb"\n|\r.", self.rest, re.DOTALL):
                raise Malformed("a bare CR or LF")
            raise Incomplete
        line, self.at = self.data[self.at : end], end + 2
        if b"\r" in line or b"\n" in line:
            raise Malformed("a bare CR or LF")
        return line

    def _fields(self) -> list[Header]:
        found: list[Header] = []
        while line := self._line():
            name, colon, value = line.partition(b":")
            if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
                raise Malformed("not a field line")
            found.append((name.lower(), value.strip(b" \t")))
        return found

    def _framing(self, message: Message, *, old: bool) -> str | None:
        lengths, encodings = message.values(b"content-length"), message.values(b"transfer-encoding")
        if len(lengths) > 1 or len(encodings) > 1 or (lengths and encodings):  # section 6.3
            raise Malformed("several lengths")
        if encodings:
            if old or encodings[0].lower() != b"chunked":
                raise Malformed("a Transfer-Encoding that is not one chunked")
            return "chunked"
        if lengths:
            if not re.fullmatch(rb"[0-9]+", lengths[0]):
                raise Malformed("not a Content-Length")
            return "length"
        return None

    def _body(self, message: Message) -> None:
        if message.framing == "chunked":
            self._chunks(message)
        elif message.framing == "length":
            length = int(message.values(b"content-length")[0])
            message.body = self.data[self.at : self.at + length]
            message.complete = len(message.body) == length
            self.at += len(message.body)
        elif message.framing == "close":
            message.body, self.at = self.rest, len(self.data)
        else:
            message.complete = True

    def _chunks(self, message: Message) -> None:
        try:
            while True:
                match = _CHUNK.fullmatch(self._line())
                if match is None:
                    raise Malformed("not a chunk size")
                message.extended |= bool(match[2])
                size = int(match[1], 16)
                if not size:
                    break
                chunk = self.data[self.at : self.at + size]
                self.at += len(chunk)
                message.chunks.append(chunk)
                message.body += chunk
                if len(chunk) < size:
                    return
                ending = self.data[self.at : self.at + 2]
                if ending != b"\r\n":
                    if b"\r\n".startswith(ending):
                        return
                    raise Malformed("a chunk does not end where it should")
                self.at += 2
            message.trailers = self._fields()
            message.complete = True
        except Incomplete:
            return


def requests(data: bytes) -> tuple[list[Message], bool]:
    """Return the whole requests that `data` begins with, and whether what follows them is malformed."""
    reader = Reader(data)
    found: list[Message] = []
    try:
        while reader.rest:
            message = reader.request()
            if not message.complete:
                return found, False
            found.append(message)
    except Incomplete:
        return found, False
    except Malformed:
        return found, True
    return found, False
