"""The state that all connections of a server share: options, bounds, counts, and the log of refusals."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from proxy.kernel.client_address import Trusted
from proxy.kernel.error_rendering import render
from proxy.kernel.errors import Refused
from proxy.kernel.refusal_log import Refusals
from proxy.kernel.websocket import SocketOptions
from proxy.server import open_files
from proxy.server.connection_counts import ConnectionCounts
from proxy.server.disconnect_watch import DisconnectWatch

_log = structlog.get_logger("ollama_proxy.server")


@dataclass(frozen=True, kw_only=True)
class ConnectionOptions:
    """The options of a connection. Times are seconds, sizes bytes. The policy file alone has defaults.

    Attributes:
        head_timeout: for a whole request head, from its first byte, or from the connection's beginning.
        head_bytes: of a request head with its request line.
        head_fields: number of header fields.
        body_timeout: between two parts of a request body, while we are reading it; the precision is a factor of two.
        keep_alive: that an idle connection is kept, and that the rest of a body may take after an early answer.
        write_timeout: that a client may leave more than 64 KiB of an answer, or its end, unread.
        total: connections at once; None: as many as the limit on open files suggests.
        per_address: those of one address; None: three fourths of `total`.
        handshakes: TLS handshakes that run at once; None: an eighth of `total`, at most `MOST_HANDSHAKES`.
        websocket: those of a WebSocket; None where none may be opened.
        trusted: the proxies in front, whose connections are bounded together with all others only.
    """

    head_timeout: float
    head_bytes: int
    head_fields: int
    body_timeout: float
    keep_alive: float
    write_timeout: float
    total: int | None
    per_address: int | None
    handshakes: int | None
    trusted: Sequence[Trusted]
    websocket: SocketOptions | None


MOST_HANDSHAKES: Final = 256


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds on connections, as numbers: those that `ConnectionOptions` leaves open are filled in."""

    total: int
    per_address: int
    handshakes: int


def bounds_of(options: ConnectionOptions, files: int) -> Bounds:
    """Return the bounds for a process that may have `files` open; no option raises them beyond that.

    A handshake is a connection, too, and an address has no more than all of them.
    """
    room = max(1, files - open_files.reserve(files))
    total = open_files.for_clients(files) if options.total is None else min(options.total, room)
    per_address = max(1, total * 3 // 4) if options.per_address is None else min(options.per_address, total)
    most = max(8, min(total // 8, MOST_HANDSHAKES)) if options.handshakes is None else options.handshakes
    return Bounds(total, per_address, min(most, total))


def log_bounds(bounds: Bounds) -> None:
    """Log the bounds, once a process serves."""
    _log.info(
        "connections_bounded",
        files=open_files.limit(),
        total=bounds.total,
        per_address=bounds.per_address,
        handshakes=bounds.handshakes,
    )


class GuardState(ServerState):
    """uvicorn's state of a server, with our options and counts."""

    def __init__(
        self,
        options: ConnectionOptions,
        disconnect_watch: DisconnectWatch | None,
        counts: ConnectionCounts | None = None,
    ) -> None:
        super().__init__()
        self.options = options
        self.disconnect_watch = disconnect_watch
        self.empty = asyncio.Event()
        """Set while there is no connection."""
        self.empty.set()
        self.refused = Refusals()
        """Requests and connections that were refused before an application saw them."""
        self.counts = ConnectionCounts() if counts is None else counts
        self.bounds = bounds_of(options, open_files.limit())

    def renew(self, options: ConnectionOptions) -> None:
        """Take other options, for connections that come from now on."""
        self.options, self.bounds = options, bounds_of(options, open_files.limit())

    def refusal(self, refused: Refused) -> bytes:
        """Return the whole response to a request that no application sees."""
        status, headers, body = render("text", refused)
        lines = [b"%s: %s\r\n" % field for field in [*self.default_headers, *headers, (b"connection", b"close")]]
        return b"".join([STATUS_LINE[status], *lines, b"\r\n", body])

    def note_refusal(self, refused: Refused, client: tuple[str, int] | None) -> None:
        """Count and log it; see `Refusals.note`."""
        self.refused.note(refused, client[0] if client else "unix")

    def note_turned_away(self, reason: str, peer: str) -> None:
        """Count and log a connection that is refused; see `Refusals.note_turned_away`."""
        self.refused.note_turned_away(reason, peer or "unix")


def _worth_logging(record: logging.LogRecord) -> bool:
    """Drop what uvicorn calls errors of the application and we do on purpose: the frame has logged it, as an outcome.

    These are a response left without its end (see *honest endings* in the docs), and a request cancelled by shutdown.
    """
    if record.msg == "ASGI callable returned without completing response.":
        return False
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


uvicorn_log: Final = logging.getLogger("uvicorn.error.guard")
uvicorn_log.addFilter(_worth_logging)
