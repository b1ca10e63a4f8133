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
`translate` turns both, and what the operating system raises, into the project's errors by one map, `MAP`. `translated`
and `Caught` apply it; nothing else above a transport catches these exceptions.
"""

import socket
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, NamedTuple, Self

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


class Facts(NamedTuple):
    """What is known of one failed exchange; see `TransportFailure`, whose text is the `detail`."""

    message: str
    detail: str
    sent: bool
    received: bool
    reused: bool


class Meaning(NamedTuple):
    """What one type of exception means.

    Attributes:
        make: makes the project's error of the facts.
        says: the message where another transport raised it. The texts of those may name an address.
        sent: whether the request may have reached the backend where another transport raised it.
    """

    make: Callable[[Facts], UpstreamError]
    says: str
    sent: bool = True


def _unreached(facts: Facts) -> UpstreamError:
    return ConnectFailed(facts.message, detail=facts.detail)


def _late(timer: Timer) -> Callable[[Facts], UpstreamError]:
    def make(facts: Facts) -> UpstreamError:
        message, detail, sent, received, _ = facts
        return UpstreamTimeout(message, timer=timer, sent=sent, received=received, detail=detail)

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
    socket.gaierror: Meaning(_unreached, "the name of the backend is not known", sent=False),
    httpx.ConnectTimeout: Meaning(_late("connect"), "no connection to the backend in time", sent=False),
    httpx.PoolTimeout: Meaning(_late("connect"), "no connection to the backend was free in time", sent=False),
    httpx.WriteTimeout: Meaning(_late("write"), "the backend took nothing of the request in time"),
    httpx.TimeoutException: Meaning(_silent, "the backend sent nothing in time"),
    httpx.LocalProtocolError: Meaning(_unsendable, "the request cannot be sent in HTTP/1.1", sent=False),
    httpx.UnsupportedProtocol: Meaning(_unsendable, "the backend's address has another scheme than HTTP", sent=False),
    CutShort: Meaning(_broken, "the backend broke off its answer"),
    httpx.RemoteProtocolError: Meaning(_not_http, "the backend's answer is not HTTP/1.1, or broke off"),
    httpx.TransportError: Meaning(_broken, "the connection to the backend broke"),
    OSError: Meaning(_broken, "the connection to the backend broke"),
    Exception: Meaning(_failed, "the exchange with the backend failed"),
}
"""What the exceptions of transports and of the operating system mean; of an exception's types the nearest counts.

Another transport than ours raises RemoteProtocolError for a connection that was closed too early, too.
"""
FOREIGN: Final = (httpx.HTTPError, OSError)
"""What may come out of a transport or the stream of its response, apart from what the reader of a request body raises.
"""


def translate(error: Exception, *, received: bool = False) -> UpstreamError:
    """Return `error`, raised by a transport or the stream of its response, as one of the project's errors.

    Args:
        error: from this transport, another one of httpx's, or the operating system.
        received: whether a response head was in. Only other transports need to be told; this one's errors know better.
    """
    meaning = next(MAP[kind] for kind in type(error).__mro__ if kind in MAP)
    detail = str(error) or type(error).__name__
    if isinstance(error, TransportFailure):
        return meaning.make(Facts(error.public, detail, error.sent, error.received, error.reused))
    return meaning.make(Facts(meaning.says, detail, meaning.sent, received, reused=False))


def unbegun(error: Truncated | UpstreamTimeout, *, cold: bool) -> UpstreamError:
    """Return `error` as what it is to a caller to whom nothing of the answer has gone out: it never began.

    A model that had to be loaded (`cold`) had the time for that.
    """
    if isinstance(error, Truncated):
        return ConnectionLost(error.message, sent=True, reused=False, detail=error.detail)
    if error.timer in ("first_byte", "idle"):
        return error.unbegun("load" if cold else "first_byte")
    return error


class translated:
    """In its block, raise the project's errors in place of a transport's; see `translate` for `received`."""

    __slots__ = ("_received",)

    def __init__(self, *, received: bool = False) -> None:
        self._received = received

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Translate what is raised."""
        if isinstance(error, FOREIGN):
            let_go(error)
            raise translate(error, received=self._received) from error


class Caught:
    """End its block at what a transport raises, and keep its translation; an answer had begun.

    Attributes:
        failure: the translation, None where nothing failed. What others raise in the block, it leaves alone.
    """

    __slots__ = ("failure",)

    def __init__(self) -> None:
        self.failure: UpstreamError | None = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        """Translate and keep what is raised."""
        if not isinstance(error, FOREIGN):
            return False
        self.failure = translate(error, received=True)
        let_go(error)
        return True
