"""Parses the requests of a connection with httptools, with Go's checks of a request's head."""

from typing import Any, Final, Protocol

import httptools

from proxy.simulator.request import Request

HEAD_LIMIT: Final = (1 << 20) + 4096  # Go's DefaultMaxHeaderBytes and its slack


class Receiver(Protocol):
    """Takes the requests that a parser finds."""

    @property
    def refused(self) -> bool:
        """Return whether a request was refused already, so that nothing behind it is taken."""

    def begin(self, method: str, target: bytes, headers: list[tuple[bytes, bytes]]) -> Request:
        """Return the request of a head that is complete."""

    def take(self, request: Request) -> None:
        """Serve the request, or have it wait for its turn."""

    def body_grew(self, request: Request) -> None:
        """Note that a part of the request's body has arrived."""

    def refuse(self, status: bytes, text: bytes) -> None:
        """Answer with an error of net/http, and close."""


class RequestParser:
    """Parses what one connection receives; the methods that begin with ``on_`` are httptools' callbacks.

    Attributes:
        incoming: the request whose body is arriving, or None.
    """

    def __init__(self, receiver: Receiver) -> None:
        self.incoming: Request | None = None
        self._receiver = receiver
        self._parser: Any = httptools.HttpRequestParser(self)
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0

    def feed(self, data: bytes) -> None:
        """Parse `data`; raises the errors of httptools."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """Forget the head before."""
        self._target = b""
        self._fields = []
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._target += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one field; a trailer is dropped, as Go keeps trailers apart."""
        if self.incoming is None:
            self._fields.append((name, value))
            self._count(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        """Hand on the request, or refuse a head that has not exactly one Host."""
        hosts = [value for name, value in self._fields if name.lower() == b"host"]
        if self._receiver.refused:
            return
        version = self._parser.get_http_version()
        if len(hosts) > 1:
            self._receiver.refuse(b"400 Bad Request", b"400 Bad Request: too many Host headers")
        elif not hosts and version == "1.1":
            self._receiver.refuse(b"400 Bad Request", b"400 Bad Request: missing required Host header")
        else:
            request = self._receiver.begin(self._parser.get_method().decode(), self._target, self._fields)
            request.version = version
            request.keep_alive = self._parser.should_keep_alive()
            request.chunked = any(b"chunked" in value.lower() for value in request.all("transfer-encoding"))
            self.incoming = request
            self._receiver.take(request)

    def on_body(self, data: bytes) -> None:
        """Take a part of the body."""
        if (request := self.incoming) is not None:
            request.feed(data)
            self._receiver.body_grew(request)

    def on_message_complete(self) -> None:
        """End the body."""
        request, self.incoming = self.incoming, None
        if request is not None:
            request.finish()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_LIMIT and not self._receiver.refused:
            status = b"431 Request Header Fields Too Large"
            self._receiver.refuse(status, status)
