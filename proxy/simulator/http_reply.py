"""Writes the answer to one request: head, framing, chunks, end.

`Reply` does what Go's net/http does; subclasses in ``faulty_replies.py`` do one step of it otherwise.
"""

import time
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from proxy.simulator import go_json
from proxy.simulator.client_socket import ClientSocket
from proxy.simulator.generation_job import Speech
from proxy.simulator.refusals import JSON_UTF8, Refuse, flavor_of, render
from proxy.simulator.request import Request

Headers = Iterable[tuple[bytes, bytes]]

# Go buffers so much of a response before it gives up on finding its length (bufferBeforeChunkingSize in net/http).
SHORT: Final = 2048


class Struck(Exception):
    """A fault has ended this answer; `keep` tells whether the connection goes on."""

    def __init__(self, *, keep: bool = False) -> None:
        super().__init__()
        self.keep = keep


class RunnerFailed(Exception):
    """The model's process died; the text is the error message."""


class Reply:
    """Writes one response.

    The head goes out together with the first chunk, so that no byte comes before the first token. With a `length`
    the body is framed by Content-Length, otherwise in chunks, or by closing for a client of HTTP/1.0.

    Attributes:
        started: whether the head has been decided on.
        chunks: body chunks written so far.
        close_after: whether the connection ends with this response.
        extra: headers for every answer to this request (CORS).
    """

    def __init__(self, connection: ClientSocket, request: Request) -> None:
        self.connection = connection
        self.request = request
        self.started = False
        self.chunks = 0
        self.close_after = not request.keep_alive
        self.extra: Headers = ()
        self._head = b""
        self._length: int | None = None
        self._bodiless = request.method == "HEAD"

    async def before(self) -> bool:
        """Act before the request is looked at; True when that was all."""
        return False

    def check(self, produced: int) -> None:
        """Raise `RunnerFailed` when the runner has to die after `produced` tokens."""

    def spoken(self, speech: Speech) -> Speech:
        """Return what the model says in the place of `speech`."""
        return speech

    async def start(self, status: int, headers: Headers, length: int | None = None) -> None:
        """Decide on the head. Nothing is written yet."""
        self.started = True
        self.request.status = status
        self.close_after = self.close_after or not self.request.complete
        self._length = length
        self._head = self._render_head(status, [*headers, *self.extra], self._framing(status, length))

    async def send(self, data: bytes) -> None:
        """Write `data` as one chunk.

        Raises:
            ClientGone: nobody is there any more.
        """
        if self._bodiless:
            return
        framed = data if self._length is not None or self.request.version == "1.0" else self._frame(data)
        self.chunks += 1
        self.connection.host.sent(self.request, data)
        await self._write(self._take_head() + framed)

    async def end(self) -> None:
        """Write what ends the body."""
        tail = b"" if self._bodiless or self._length is not None or self.request.version == "1.0" else self._tail()
        if data := self._take_head() + tail:
            await self._write(data)

    async def whole(self, status: int, content_type: bytes, body: bytes, headers: Headers = ()) -> None:
        """Write a complete response, framed as Go does: by its length when it is short, as one chunk when not."""
        known = len(body) <= SHORT and (body or not self._bodiless)
        kind = [(b"Content-Type", content_type)] if content_type else []
        await self.start(status, [*headers, *kind], len(body) if known else None)
        if body:
            await self.send(body)
        await self.end()

    async def refuse(self, refusal: Refuse) -> None:
        """Write an error in the flavor of the route."""
        kind, body = render(flavor_of(self.request.path), refusal)
        if not refusal.chunked:
            await self.whole(refusal.status, kind, body)
            return
        await self.start(refusal.status, [(b"Content-Type", kind)])
        await self.send(body)
        await self.end()

    async def json(self, value: object, status: int = 200) -> None:
        """Write `value` as gin does."""
        await self.whole(status, JSON_UTF8, go_json.dumps(value))

    async def _write(self, data: bytes) -> None:
        """Hand bytes to the connection and wait while the client does not read."""
        self.connection.check()
        self.connection.write(data)
        if self.connection.paused:
            await self.connection.drain()

    def _take_head(self) -> bytes:
        """Return the head if it has not been written yet, else nothing."""
        head, self._head = self._head, b""
        return head

    def _framing(self, status: int, length: int | None) -> Headers:
        if status == 204 or status == 304 or self.request.version == "1.0" or (self._bodiless and length is None):
            return ()
        if length is not None:
            return [(b"Content-Length", b"%d" % length)]
        return [(b"Transfer-Encoding", b"chunked")]

    def _render_head(self, status: int, headers: Headers, framing: Headers) -> bytes:
        """Return the head with its fields in Go's order: the handler's sorted, then those of the server."""
        lines = [b"HTTP/%s %d %s\r\n" % (self.request.version.encode(), status, reason(status))]
        self.close_after = self.close_after or (self.request.version == "1.0" and self._length is None)
        if self.close_after:
            headers = [field for field in headers if field[0] != b"Connection"]
        lines += [b"%s: %s\r\n" % field for field in sorted(headers)]
        lines.append(b"Date: %s\r\n" % http_date())
        if self.close_after:
            lines.append(b"Connection: close\r\n")
        lines += [b"%s: %s\r\n" % field for field in framing]
        return b"".join((*lines, b"\r\n"))

    def _frame(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data)

    def _tail(self) -> bytes:
        return b"0\r\n\r\n"


def reason(status: int) -> bytes:
    """Return the reason phrase Go would write."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"status code %d" % status


_date: tuple[int, bytes] = (0, b"")


def http_date() -> bytes:
    """Return the time for the Date field, rendered once per second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True).encode())
    return _date[1]
