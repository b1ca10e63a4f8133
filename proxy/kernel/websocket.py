"""The contract between the server, which has the connection of a WebSocket, and the session that speaks over it.

The server reads the handshake, and hands the request to open a socket through the chain like any other request. At the
chain's end `WebSockets` (``proxy/websocket/app.py``) accepts it. From then on the server has a `Session` that it tells
what comes, and the session has a `Socket` that it sends by. Both are called in the event loop, and never wait.
"""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Protocol

from proxy.kernel.asgi import Header
from proxy.kernel.errors import Refused

OPENING: Final = "websocket"
"""The key of ``scope["state"]`` at which a request to open a socket has its `Opening`."""
BEARER: Final = "bearer."
"""The beginning of the subprotocol by which a page in a browser, which can set no header field, sends its token."""


class Closing(IntEnum):
    """The codes with which the server closes a socket (RFC 6455 section 7.4.1); a cut connection has none.

    `websockets`, which reads the frames, adds 1002 where they break the RFC, and 1009 for a message that is too large.
    """

    NORMAL = 1000
    """Nothing happened for ``idle``."""
    GOING_AWAY = 1001
    """The server stops, or the socket is as old as ``total``; all answers that had begun are out."""
    UNSUPPORTED = 1003
    """A binary message came."""
    BAD_TEXT = 1007
    """A text message is not UTF-8."""
    TOO_LATE = 1008
    """The rest of a message did not come within ``server.body.timeout``."""
    RESTART = 1012
    """The time to drain was over before the answers were; each had its error before."""
    TRY_LATER = 1013
    """There is no memory for a message that is coming, or another connection needs the place of this idle one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SocketOptions:
    """The options of a WebSocket. Times are seconds, sizes bytes. The policy file alone has defaults.

    Attributes:
        ping: from one ping to the next.
        pong: that a client may be silent after a ping.
        idle: that a socket on which no request runs is kept.
        total: the age at which a socket takes no further requests, and closes.
        message: the largest message, and the largest frame of an answer.
        requests: the requests of one socket that run at once.
        waiting: the requests of one socket that wait for these.
        memory: the bytes of conversations that one socket remembers, for ``previous_response_id``.
    """

    ping: float
    pong: float
    idle: float
    total: float
    message: int
    requests: int
    waiting: int
    memory: int


class Socket(Protocol):
    """An open socket, as its session sees it."""

    def send(self, text: bytes) -> bool:
        """Send one text frame; return whether the client keeps up. Where it does not, `room` is to be awaited."""

    def room(self) -> Awaitable[None]:
        """Wait until the client has read."""

    def run(self, work: Coroutine[Any, Any, None]) -> object:
        """Run the task of a request; the server waits for it before it ends. Return the task."""

    def busy(self, runs: bool) -> None:
        """Note whether a request runs or waits: only a socket without any is idle."""

    def pause(self) -> None:
        """Tell of no further messages before `go_on`."""

    def go_on(self) -> None:
        """Tell of messages again, later."""

    def close(self, code: Closing, reason: str) -> None:
        """Close the socket; what was sent before still goes out."""


class Session(Protocol):
    """What is said over one socket."""

    def text(self, message: bytes) -> None:
        """Take a whole text message, of valid UTF-8."""

    def hold(self, change: int) -> None:
        """Account for more or fewer bytes of a message that is still arriving; raises Refused (429, 503)."""

    def drain(self, reason: str) -> None:
        """Take no further requests, and close the socket with 1001 when the last answer is out."""

    def cut(self) -> None:
        """End all requests as a server does that stops, and close the socket with 1012."""

    def gone(self) -> None:
        """Stop all requests: the client has left."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A request to open a socket, as it came, before a plugin changed anything.

    Attributes:
        path: the decoded path.
        query: the query string.
        headers: the fields that its requests are made with, the credentials among them.
        protocols: the subprotocols that the client offers; those with a token are not among them.
        fallback: the subprotocol to select where the client offers no other one; it may hold a token.
        flaw: what is wrong with the handshake; None where nothing is.
        options: the options in force.
        accept: takes what makes the session; call it before the response with status 101 begins.
    """

    path: str
    query: bytes
    headers: Sequence[Header]
    protocols: tuple[str, ...]
    fallback: str | None
    flaw: Refused | None
    options: SocketOptions
    accept: Callable[[Callable[[Socket], Session]], None]
