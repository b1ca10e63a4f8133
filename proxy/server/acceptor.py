"""Accepting connections, within their bounds: a connection is counted before TLS begins, and before uvicorn has it.

asyncio and uvloop accept every connection, and tell of a TLS connection only after its handshake. So this module
accepts by itself and hands to the loop only the connections that may stay. A connection over a bound is refused at
once: by 503 with Retry-After on a plain listener, by closing it on a TLS listener.
"""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from proxy.kernel import error_codes as codes
from proxy.kernel.errors import Refused
from proxy.server.connection_counts import UNBOUNDED, Place, group_of
from proxy.server.guarded_protocol import GuardedProtocol
from proxy.server.idle_connections import IdleConnections
from proxy.server.server_state import GuardState
from proxy.server.tls_handshakes import Handshakes

AT_ONCE: Final = 64
"""Connections that are accepted before the loop does something else: few enough for the loop to go on within
milliseconds, and enough that a burst need not wait for several turns of a busy loop."""
AT_ONCE_AHEAD: Final = 2
"""The same for a process that has more connections than others, after `COURTESY`."""
COURTESY: Final = 0.002
"""Seconds for which such a process leaves connections that wait to the others, which may be busy, or gone."""
WITHOUT_FILES: Final = 0.1
"""Seconds until accepting is tried again where not even a connection to be refused could be opened."""
RETRY_AFTER: Final = 5
"""Seconds, for clients that are refused."""

_NO_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_WHY: Final = {
    "address": "there are as many connections from your address as one may have; close some, or try again later",
    "total": "the proxy has as many connections as it takes; try again later",
    "files": "the proxy has as many files open as it may; try again later",
}


class Acceptor:
    """Accepts the connections that come to the listeners of one server.

    Args:
        state: shared by all connections.
        make: makes the protocol of one connection.
    """

    def __init__(self, state: GuardState, make: Callable[[], GuardedProtocol]) -> None:
        self.state = state
        self.make = make
        self.loop = asyncio.get_running_loop()
        self.handshakes = Handshakes(self.loop, lambda: state.bounds.handshakes, lambda: state.options.head_timeout)
        self.closed = False
        self._listeners: dict[socket.socket, ssl.SSLContext | None] = {}
        self._idle = IdleConnections(state)
        self._waited: set[socket.socket] = set()
        """The listeners whose next connections were left to other processes for a moment."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._spare = _spare_file()
        """A file that is closed for a moment where no other is left, to accept a connection and refuse it."""

    def listen(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        """Begin to accept connections to `sock`, which listens already, with TLS where there is a `context`."""
        sock.setblocking(False)
        self._listeners[sock] = context
        self.loop.add_reader(sock, self._accept, sock)

    def close(self) -> None:
        """Accept nothing more, close the listeners, and drop the connections that have no protocol yet."""
        self.closed = True
        self.state.counts.leave()
        for sock in self._listeners:
            self.loop.remove_reader(sock)
            sock.close()
        self._listeners.clear()
        self.handshakes.close()
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    async def wait_closed(self) -> None:
        """Wait until each connection that was accepted has its protocol, or is gone."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def start(self, arrival: "Arrival") -> asyncio.Task[None]:
        """Let the loop take over a connection."""
        task = self.loop.create_task(arrival.connect())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _accept(self, listener: socket.socket) -> None:
        context, counts = self._listeners[listener], self.state.counts
        patient = listener in self._waited
        self._waited.discard(listener)
        for number in range(AT_ONCE):
            if counts.ahead and (not patient or number >= AT_ONCE_AHEAD):
                self._leave_to_others(listener)
                return
            try:
                sock, peer = _accepted(listener)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in _NO_FILES:
                    continue  # the connection that was to be accepted is gone, and that is all (accept(2))
                if not self._refuse_without_files(listener, context):
                    return
            else:
                self._admit(sock, peer, context)

    def _admit(self, sock: socket.socket, peer: str, context: ssl.SSLContext | None) -> None:
        """Hand a connection to the loop, or refuse it."""
        state, group = self.state, group_of(peer, self.state.options.trusted)
        counts, bounds = state.counts, state.bounds
        # Counted before it is compared, so that two processes never both take the last place.
        place = counts.take(group)
        if group != UNBOUNDED and counts.everywhere_of(group) > bounds.per_address:
            place.give_back()
            self._refuse(sock, peer, context, "address")
            return
        if counts.everywhere > bounds.total:
            place.give_back()
            if not self._idle.close_some(group):
                self._refuse(sock, peer, context, "total")
                return
            place = counts.take(group)
        sock.setblocking(False)
        arrival = Arrival(self, sock, peer, place, context)
        if context is None:
            arrival.begin()
        else:
            self.handshakes.add(arrival)

    def _leave_to_others(self, listener: socket.socket) -> None:
        """Let the other processes accept first; what they have not taken after a moment is ours."""
        self.loop.remove_reader(listener)
        self.loop.call_later(COURTESY, self._accept_again, listener)

    def _accept_again(self, listener: socket.socket) -> None:
        if not self.closed:
            self._waited.add(listener)
            self.loop.add_reader(listener, self._accept, listener)

    def _refuse(self, sock: socket.socket, peer: str, context: ssl.SSLContext | None, reason: str) -> None:
        """Answer 503 where that can be said, and close; nothing waits for the client."""
        self.state.note_turned_away(reason, peer)
        with sock, suppress(OSError):
            sock.setblocking(False)
            if context is None:
                headers = {"retry-after": str(RETRY_AFTER)}
                refused = Refused(503, _WHY[reason], code=codes.TOO_MANY_CONNECTIONS, headers=headers)
                sock.send(self.state.refusal(refused))
                # To close with input unread would reset the connection, and take the answer away from the client.
                sock.shutdown(socket.SHUT_WR)
                sock.recv(65_536)

    def _refuse_without_files(self, listener: socket.socket, context: ssl.SSLContext | None) -> bool:
        """Refuse a connection for which there is no file; return whether accepting may go on at once."""
        self._idle.close_some(UNBOUNDED)
        if self._spare is not None:
            os.close(self._spare)
            try:
                sock, peer = _accepted(listener)
            except OSError:
                pass
            else:
                self._refuse(sock, peer, context, "files")
            self._spare = _spare_file()
        if self._spare is not None:
            return True
        # The listener stays readable; without a pause the loop would turn and turn.
        self.loop.remove_reader(listener)
        self.loop.call_later(WITHOUT_FILES, self._resume, listener)
        return False

    def _resume(self, listener: socket.socket) -> None:
        if self.closed:
            return
        if self._spare is None:
            self._spare = _spare_file()
        self.loop.add_reader(listener, self._accept, listener)

    def __repr__(self) -> str:
        return f"<Acceptor {self.state.counts!r}, {self.handshakes!r}{', closed' if self.closed else ''}>"


def _accepted(listener: socket.socket) -> tuple[socket.socket, str]:
    """Accept a connection; return it with its peer's IP address, which is empty behind a unix socket."""
    sock, peer = listener.accept()
    return sock, peer[0] if isinstance(peer, tuple) else ""


class Arrival:
    """A connection from `accept` until it has its protocol."""

    __slots__ = ("_acceptor", "_context", "_entered", "_peer", "_place", "_sock", "_task", "group", "since")

    def __init__(
        self, acceptor: Acceptor, sock: socket.socket, peer: str, place: Place, context: ssl.SSLContext | None
    ) -> None:
        self._acceptor = acceptor
        self._sock = sock
        self._peer = peer
        self._place = place
        self._context = context
        self._task: asyncio.Task[None] | None = None
        self._entered = False
        self.group = place.group
        self.since = acceptor.loop.time()

    def begin(self) -> None:
        """Begin the handshake, or without TLS make the transport at once."""
        self._task = self._acceptor.start(self)
        self._task.add_done_callback(self._over)

    def drop(self) -> None:
        """Close the socket, whether the handshake has begun or not."""
        if not self._acceptor.closed:
            self._acceptor.state.note_turned_away("handshake", self._peer)
        if self._task is not None:
            self._task.cancel()  # `_over` follows
        else:
            self._sock.close()
            self._place.give_back()

    async def connect(self) -> None:
        """Let the loop make the transport, after the handshake where there is one; raises OSError where that fails."""
        self._entered = True
        if self._context is None:
            await self._acceptor.loop.connect_accepted_socket(self._protocol, self._sock)
            return
        options = self._acceptor.state.options
        await self._acceptor.loop.connect_accepted_socket(
            self._protocol,
            self._sock,
            ssl=self._context,
            ssl_handshake_timeout=options.head_timeout,
            ssl_shutdown_timeout=options.write_timeout,
        )

    def _protocol(self) -> GuardedProtocol:
        protocol = self._acceptor.make()
        protocol.place = self._place
        return protocol

    def _over(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if self._context is not None:
            self._acceptor.handshakes.done(self)
        if not self._entered:
            self._sock.close()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # No TLS, a certificate that is not ours, too late, or gone.
            self._acceptor.state.refused.note_turned_away("tls")
        if error is not None or task.cancelled():
            self._place.give_back()
        if error is not None and not isinstance(error, OSError):
            self._acceptor.loop.call_exception_handler(
                {"message": "a connection could not be made", "exception": error}
            )


def _spare_file() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
