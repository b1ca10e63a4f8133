"""Cut the chunks of an answer into the texts that become frames: its lines, the data of its events, or the whole of it.

A backend sends one line or one event in a chunk, and that is the quick way. A chunk that ends elsewhere is cut, too.
"""

from collections.abc import Callable
from typing import Final, Protocol

from proxy.kernel.asgi import Header, header

Emit = Callable[[bytes], bool]
"""Takes one text; returns whether the client keeps up."""

_EVENT_END: Final = b"\n\n"
_DATA: Final = b"data:"


class TooLong(Exception):
    """A line, an event or an answer has more bytes than a frame may have."""


class Cutter(Protocol):
    """Cuts one answer."""

    def take(self, chunk: bytes) -> bool:
        """Take a chunk; return whether the client keeps up. Raises TooLong."""

    def end(self) -> None:
        """Emit what is left, as the answer is complete."""


def cutter_for(headers: list[Header], emit: Emit, longest: int) -> Cutter:
    """Return what cuts an answer with these header fields: by lines (NDJSON), by events (SSE), or not at all."""
    kind = (header(headers, b"content-type") or b"").partition(b";")[0].strip().lower()
    if kind == b"application/x-ndjson":
        return Lines(emit, longest)
    return Events(emit, longest) if kind == b"text/event-stream" else Whole(emit, longest)


class Lines:
    """Emits each line that is not empty."""

    __slots__ = ("_emit", "_longest", "_rest")

    def __init__(self, emit: Emit, longest: int) -> None:
        self._emit, self._longest = emit, longest
        self._rest = bytearray()

    def take(self, chunk: bytes) -> bool:
        """Take a chunk."""
        if not self._rest and chunk.find(b"\n") == len(chunk) - 1:
            return self._emit(chunk[:-1]) if len(chunk) > 1 else True
        end = chunk.rfind(b"\n")
        lines = b""
        if end >= 0:
            lines, self._rest = bytes(self._rest + chunk[:end]), bytearray()
        self._rest += chunk[end + 1 :]
        if len(self._rest) > self._longest:
            raise TooLong
        keeps_up = True
        for line in lines.split(b"\n"):
            if line.strip():
                keeps_up = self._emit(line)
        return keeps_up

    def end(self) -> None:
        """Emit a last line without its end."""
        rest, self._rest = bytes(self._rest), bytearray()
        if rest.strip():
            self._emit(rest)


class Events:
    """Emits the data of each event that has some (HTML, section 9.2.6); its name is in the data of all three APIs."""

    __slots__ = ("_emit", "_feed_may_follow", "_longest", "_rest")

    def __init__(self, emit: Emit, longest: int) -> None:
        self._emit, self._longest = emit, longest
        self._rest = bytearray()
        self._feed_may_follow = False
        """Whether the last byte was a carriage return, which a line feed may belong to."""

    def take(self, chunk: bytes) -> bool:
        """Take a chunk."""
        if not self._rest and not self._feed_may_follow and b"\r" not in chunk:
            end = len(chunk) - 2
            if chunk.startswith(b"data: ") and chunk.find(b"\n") == end and chunk.endswith(_EVENT_END):
                return self._emit(chunk[6:end])
            if 0 < chunk.find(_EVENT_END) == end:
                return self._event(chunk[:end])
        if self._feed_may_follow:
            chunk = chunk.removeprefix(b"\n")
        self._feed_may_follow = chunk.endswith(b"\r")
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        before = len(self._rest)
        self._rest += chunk
        events: list[bytes] = []
        if self._rest.find(_EVENT_END, max(0, before - 1)) >= 0:
            *events, rest = bytes(self._rest).split(_EVENT_END)
            self._rest = bytearray(rest)
        if len(self._rest) > self._longest:
            raise TooLong
        keeps_up = True
        for event in events:
            keeps_up = self._event(event)
        return keeps_up

    def end(self) -> None:
        """Drop an event without its end, as every reader of events does."""
        self._rest = bytearray()

    def _event(self, event: bytes) -> bool:
        before, mark, data = event.rpartition(b"\ndata: ")
        if mark and _DATA not in before and b"\n" not in data:  # its name, then its data
            return self._emit(data)
        if event.startswith(b"data: ") and b"\n" not in event:
            return self._emit(event[6:])
        fields = [line[len(_DATA) :] for line in event.split(b"\n") if line.startswith(_DATA)]
        data = b"\n".join(field.removeprefix(b" ") for field in fields)
        return self._emit(data) if data else True


class Whole:
    """Emits the answer when it is complete."""

    __slots__ = ("_emit", "_longest", "_parts", "_size")

    def __init__(self, emit: Emit, longest: int) -> None:
        self._emit, self._longest = emit, longest
        self._parts: list[bytes] = []
        self._size = 0

    def take(self, chunk: bytes) -> bool:
        """Take a chunk."""
        self._parts.append(chunk)
        self._size += len(chunk)
        if self._size > self._longest:
            raise TooLong
        return True

    def end(self) -> None:
        """Emit the answer."""
        whole, self._parts = b"".join(self._parts), []
        if whole.strip():
            self._emit(whole.strip())
