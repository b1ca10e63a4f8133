"""How an exchange with a backend fails: httpx's exceptions, and what the transport knows beyond them.

::

    TransportFailure           timer, sent, received, reused
    ├── NotConnected           is httpx.ConnectError: refused, unreachable, name unknown, TLS failed
    ├── ConnectTimedOut        is httpx.ConnectTimeout
    ├── NoConnectionFree       is httpx.PoolTimeout
    ├── HeadTimedOut           is httpx.ReadTimeout: no response head in time
    ├── IdleTimedOut           is httpx.ReadTimeout: no byte for too long in the middle of the answer
    ├── WriteTimedOut          is httpx.WriteTimeout: the backend stopped taking the request
    ├── Disconnected           is httpx.ReadError: reset, or closed before the response head
    ├── CutShort               is httpx.RemoteProtocolError: closed before the end that its framing promised
    ├── BadResponse            is httpx.RemoteProtocolError: not HTTP/1.1 that we accept
    └── Unsendable             is httpx.LocalProtocolError: the request must not be written like this

They are raised as httpx's own types so that `Transport` and `httpx.AsyncHTTPTransport` can stand for one another.
`proxy.upstream.transport.translate` turns both into the project's errors.
"""

import httpx

from proxy.kernel.errors import Timer


class TransportFailure(httpx.TransportError):
    """A failed exchange.

    Its text is for the operator and may name the backend's address.

    Attributes:
        public: the same for whoever asked, without an address.
        timer: the timer that ran out, None where none did.
        sent: whether any byte of the request may have reached the backend.
        received: whether any byte of an answer came back.
        reused: whether the connection had served an earlier request.
    """

    timer: Timer | None = None

    def __init__(
        self,
        message: str,
        *,
        public: str | None = None,
        sent: bool = False,
        received: bool = False,
        reused: bool = False,
    ) -> None:
        super().__init__(message)
        self.public = message if public is None else public
        self.sent = sent
        self.received = received
        self.reused = reused


class NotConnected(TransportFailure, httpx.ConnectError):
    """No connection was made; nothing was sent."""


class ConnectTimedOut(TransportFailure, httpx.ConnectTimeout):
    """No connection, TLS handshake included, within the time for it."""

    timer = "connect"


class NoConnectionFree(TransportFailure, httpx.PoolTimeout):
    """All connections were in use for too long."""

    timer = "connect"


class HeadTimedOut(TransportFailure, httpx.ReadTimeout):
    """The request was sent, and no response head came in time."""

    timer = "first_byte"


class IdleTimedOut(TransportFailure, httpx.ReadTimeout):
    """The answer had begun, and nothing more came for too long."""

    timer = "idle"


class WriteTimedOut(TransportFailure, httpx.WriteTimeout):
    """The backend took no byte of the request for too long."""

    timer = "write"


class Disconnected(TransportFailure, httpx.ReadError):
    """The connection was reset, or closed before the response head was in."""


class CutShort(TransportFailure, httpx.RemoteProtocolError):
    """The backend closed the connection in the middle of a body whose end it had announced."""


class BadResponse(TransportFailure, httpx.RemoteProtocolError):
    """The answer breaks HTTP/1.1 or a bound of ours."""


class Unsendable(TransportFailure, httpx.LocalProtocolError):
    """The request would break HTTP/1.1: nothing of it, or not all of it, was written."""
