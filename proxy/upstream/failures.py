"""The failures of an exchange with a backend: httpx's exceptions, with what the transport knows beyond them.

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
    ├── BadResponse            is httpx.RemoteProtocolError: not HTTP/1.1 that the proxy accepts
    └── Unsendable             is httpx.LocalProtocolError: the request must not be written like this

They derive from httpx's types, so that `Transport` and `httpx.AsyncHTTPTransport` can replace each other. `translate`
turns the exceptions of both, and those of the operating system, into the project's errors by one map, `MAP`.
`translated` applies it. The loop that relays chunks catches `FOREIGN` itself, as a block would be work for each chunk,
and applies it by `broke_off`. Nothing else above a transport catches these exceptions.
"""

import socket
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, NamedTuple

import httpx

from proxy.kernel.errors import (
    BadAnswer,
    ConnectFailed,
    ConnectionLost,
    Timer,
    Truncated,
    UpstreamError,
    UpstreamTimeout,
    let_go,
)


class TransportFailure(httpx.TransportError):
    """A failed exchange with a backend.

    Its text is for the operator and may name the backend's address.

    Attributes:
        public: the text for the caller, without an address.
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
        timer: Timer | None = None,
    ) -> None:
        super().__init__(message)
        self.timer = timer or self.timer
        self.public = message if public is None else public
        self.sent = sent
        self.received = received
        self.reused = reused


class NotConnected(TransportFailure, httpx.ConnectError):
    """No connection was made; nothing was sent."""


class ConnectTimedOut(TransportFailure, httpx.ConnectTimeout):
    """No connection was made, TLS handshake included, within the time-out."""

    timer = "connect"


class NoConnectionFree(TransportFailure, httpx.PoolTimeout):
    """No connection became free within the time-out."""

    timer = "connect"


class HeadTimedOut(TransportFailure, httpx.ReadTimeout):
    """The request was sent, and no response head came within the time-out."""

    timer = "first_byte"


class IdleTimedOut(TransportFailure, httpx.ReadTimeout):
    """The answer had begun, and no further byte came within the time-out."""

    timer = "idle"


class WriteTimedOut(TransportFailure, httpx.WriteTimeout):
    """The backend took no byte of the request within the time-out."""

    timer = "write"


class Disconnected(TransportFailure, httpx.ReadError):
    """The connection was reset, or closed before the whole response head came."""


class CutShort(TransportFailure, httpx.RemoteProtocolError):
    """The backend closed the connection before the announced end of the body."""


class BadResponse(TransportFailure, httpx.RemoteProtocolError):
    """The answer violates HTTP/1.1 or exceeds a bound of the proxy."""


class Unsendable(TransportFailure, httpx.LocalProtocolError):
    """The request would violate HTTP/1.1; none of it, or only a part, was written."""


class Facts(NamedTuple):
    """The facts of one failed exchange; see `TransportFailure`, whose text is the `detail`."""

    message: str
    detail: str
    sent: bool
    received: bool
    reused: bool
    timer: Timer | None = None


class Meaning(NamedTuple):
    """The meaning of one type of exception.

    Attributes:
        make: makes the project's error from the facts.
        says: the message where another transport raised it, as its own text may name an address.
        sent: whether the request may have reached the backend where another transport raised it.
    """

    make: Callable[[Facts], UpstreamError]
    says: str
    sent: bool = True


def _unreached(facts: Facts) -> UpstreamError:
    return ConnectFailed(facts.message, detail=facts.detail)


def _late(timer: Timer) -> Callable[[Facts], UpstreamError]:
    def make(facts: Facts) -> UpstreamError:
        message, detail, sent, received, _, own = facts
        return UpstreamTimeout(message, timer=own or timer, sent=sent, received=received, detail=detail)

    return make


_HEAD_LATE: Final = _late("first_byte")
_REST_LATE: Final = _late("idle")


def _silent(facts: Facts) -> UpstreamError:
    return (_REST_LATE if facts.received else _HEAD_LATE)(facts)


def _broken(facts: Facts) -> UpstreamError:
    if facts.received:
        return Truncated(facts.message, detail=facts.detail)
    return ConnectionLost(facts.message, sent=facts.sent, reused=facts.reused, detail=facts.detail)


def _not_http(facts: Facts) -> UpstreamError:
    return BadAnswer(facts.message, sent=facts.sent, received=facts.received, detail=facts.detail)


def _unsendable(facts: Facts) -> UpstreamError:
    return UpstreamError(facts.message, sent=facts.sent, received=facts.received, status=400, detail=facts.detail)


def _failed(facts: Facts) -> UpstreamError:
    return UpstreamError(facts.message, sent=facts.sent, received=facts.received, detail=facts.detail)


MAP: Final[Mapping[type[BaseException], Meaning]] = {
    httpx.ConnectError: Meaning(_unreached, "cannot connect to the backend", sent=False),
    ConnectionRefusedError: Meaning(_unreached, "the backend refuses the connection", sent=False),
    ssl.SSLCertVerificationError: Meaning(_unreached, "the backend's certificate is not valid here", sent=False),
    httpx.ProxyError: Meaning(_unreached, "the proxy in front of the backend made no connection", sent=False),
    socket.gaierror: Meaning(_unreached, "the name of the backend is not known", sent=False),
    httpx.ConnectTimeout: Meaning(_late("connect"), "no connection to the backend in time", sent=False),
    httpx.PoolTimeout: Meaning(_late("connect"), "no connection to the backend was free in time", sent=False),
    httpx.WriteTimeout: Meaning(_late("write"), "the backend took nothing of the request in time"),
    httpx.TimeoutException: Meaning(_silent, "the backend sent nothing in time"),
    TimeoutError: Meaning(_silent, "the backend sent nothing in time"),
    httpx.LocalProtocolError: Meaning(_unsendable, "the request cannot be sent in HTTP/1.1", sent=False),
    httpx.UnsupportedProtocol: Meaning(_unsendable, "the backend's address has another scheme than HTTP", sent=False),
    CutShort: Meaning(_broken, "the backend broke off its answer"),
    httpx.RemoteProtocolError: Meaning(_not_http, "the backend's answer is not HTTP/1.1, or broke off"),
    httpx.TransportError: Meaning(_broken, "the connection to the backend broke"),
    OSError: Meaning(_broken, "the connection to the backend broke"),
    Exception: Meaning(_failed, "the exchange with the backend failed"),
}
"""The meaning of the exceptions of transports and of the operating system, by type; the nearest base class counts.

Other transports raise RemoteProtocolError also for a connection that was closed too early. No type tells whether there
was a connection when TLS failed in another way (SSLError), or a host could not be reached (OSError with EHOSTUNREACH):
such a request counts as one that may have been sent.
"""
FOREIGN: Final = (httpx.HTTPError, OSError)
"""The exceptions of a transport or the stream of its response, apart from those of the reader of a request body."""


def translate(error: Exception, *, received: bool = False) -> UpstreamError:
    """Return the project's error for `error`, which a transport or the stream of its response raised.

    Args:
        error: an exception of this transport, of another httpx transport, or of the operating system.
        received: whether a response head had come. Errors of this transport know it themselves and ignore it.
    """
    meaning = next(MAP[kind] for kind in type(error).__mro__ if kind in MAP)
    detail = str(error) or type(error).__name__
    if isinstance(error, TransportFailure):
        return meaning.make(Facts(error.public, detail, error.sent, error.received, error.reused, error.timer))
    return meaning.make(Facts(meaning.says, detail, meaning.sent, received, reused=False))


def unbegun(error: Truncated | UpstreamTimeout, *, cold: bool) -> UpstreamError:
    """Return the error for an answer that broke off before any of it went out to the client: it never began.

    For a model that had to be loaded (`cold`), the timer is ``load``.
    """
    if isinstance(error, Truncated):
        return ConnectionLost(error.message, sent=True, reused=False, detail=error.detail)
    if error.timer in ("first_byte", "idle"):
        return error.unbegun("load" if cold else "first_byte")
    return error


def broke_off(error: Exception) -> UpstreamError:
    """Return the project's error for one of `FOREIGN`, caught when the answer had begun. Nothing raises `error` on."""
    failure = translate(error, received=True)
    let_go(error)
    return failure


class translated:
    """In its block, replace a transport's exceptions by the project's errors; see `translate` for `received`."""

    __slots__ = ("_received",)

    def __init__(self, *, received: bool = False) -> None:
        self._received = received

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Translate an exception of a transport."""
        if isinstance(error, FOREIGN):
            let_go(error)
            raise translate(error, received=self._received) from error
