"""The connection of an open WebSocket: bounded and timed like any other, without a task of its own.

`WebSocketReader` reads its frames. Text frames are written here by hand, as a chunk of a response is, straight to the
transport: no task wakes up for one. What is said over the socket is the matter of its `Session`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import structlog
from websockets.protocol import SEND_EOF, State

from proxy.kernel.websocket import Closing, Session, Socket, SocketOptions
from proxy.server.connection_counts import Place
from proxy.server.deadline_timer import Deadline
from proxy.server.server_state import GuardState
from proxy.server.websocket_reader import WebSocketReader

LINGER_SECONDS: Final = 2.0
"""Seconds that a client has to answer our closing frame."""
_SHORT: Final = tuple(bytes((0x81, length)) for length in range(126))
"""The header of a text frame of each length below 126 bytes (RFC 6455 section 5.2)."""

_log = structlog.get_logger("ollama_proxy.server")


class WebSocketConnection(WebSocketReader):
    """One WebSocket; it takes over the transport of the connection on which the handshake came.

    Attributes:
        place: the place among all connections that this one holds, where somebody counts.
        transport: the transport.
    """

    __slots__ = ("_busy_since", "_closing", "_idle", "_oldest", "_ping", "_writing", "place")

    def __init__(
        self, transport: asyncio.Transport, state: GuardState, options: SocketOptions, place: Place | None
    ) -> None:
        super().__init__(transport, state, options)
        loop = asyncio.get_running_loop()
        self.place = place
        self._writing, self._idle = Deadline(loop), Deadline(loop)
        self._closing, self._ping = Deadline(loop), Deadline(loop)
        self._oldest = loop.call_later(options.total, self.shutdown)
        self._busy_since: float | None = loop.time()
        """None while requests run; else the loop's time since which none does."""
        state.connections.add(self)  # type: ignore[arg-type]  # uvicorn has its own protocols there

    def begin(self, make: Callable[[Socket], Session], sent: bytes) -> None:
        """Speak WebSocket from now on; `sent` came behind the handshake."""
        self._session = make(self)
        self.busy(False)
        self._ping.start(self._options.ping, self._send_ping)
        if sent:
            self.data_received(sent)

    # The session speaks

    def send(self, text: bytes) -> bool:
        """Write one text frame (RFC 6455 section 5.2); see `Socket.send`."""
        if self._session is None or self._protocol.state is not State.OPEN:
            return True
        length = len(text)
        if length < 126:
            self.transport.write(_SHORT[length] + text)
        elif length < 65536:
            self.transport.write(b"\x81\x7e" + length.to_bytes(2) + text)
        else:
            self.transport.write(b"\x81\x7f" + length.to_bytes(8) + text)
        return not self._flow.write_paused

    def room(self) -> Awaitable[None]:
        """Wait until the client has read."""
        return self._flow.drain()

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run the task of a request, so that `Server.drain` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)
        return task

    def busy(self, runs: bool) -> None:
        """Note whether a request runs or waits."""
        if runs:
            self._idle.stop()
            self._busy_since = None
        elif self._busy_since is None or self._idle.due is None:
            self._busy_since = asyncio.get_running_loop().time()
            self._idle.start(self._options.idle, self._idle_too_long)

    def close(self, code: Closing, reason: str) -> None:
        """Send the closing frame, and end the connection when the client has answered it, or some time later.

        That time is `LINGER_SECONDS`, or ``write`` where the client has not read all that was sent before.
        """
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, _reason(reason))
            self._flush()
            unread = self.transport.get_write_buffer_size()
            self._closing.start(self._state.options.write_timeout if unread else LINGER_SECONDS, self.transport.abort)
        self._leave()

    def _flush(self) -> None:
        """Write what `websockets` wants to say: pongs and closing frames."""
        said = self._protocol.data_to_send()
        if data := b"".join(said):
            self.transport.write(data)
        if SEND_EOF in said:
            self._finish()

    def _finish(self) -> None:
        """End the connection: at once where the client said goodbye, else when it has had time to read why."""
        self._leave()
        if self.transport.is_closing():
            return
        if self._protocol.close_rcvd is not None:
            self.transport.close()
            self._writing.start(self._state.options.write_timeout, self.transport.abort)
            return
        # To close with input unread would reset the connection, and might take the closing frame from the client.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._closing.start(LINGER_SECONDS, self.transport.abort)

    # Time passes

    def _send_ping(self) -> None:
        if self._protocol.state is State.OPEN:
            self._heard = False
            self._protocol.send_ping(b"")
            self._flush()
            self._ping.start(self._options.pong, self._pong_late)

    def _pong_late(self) -> None:
        # A client that is late to read has not seen the ping; `write` bounds its time.
        if self._heard or self._flow.write_paused or self._flow.read_paused:
            self._ping.start(max(0.0, self._options.ping - self._options.pong), self._send_ping)
        else:
            self._give_up("the client answered no ping", self._options.pong)

    def _idle_too_long(self) -> None:
        self.close(Closing.NORMAL, "nothing happened for a while (timer idle)")

    def pause_writing(self) -> None:
        """Begin to count the time that the client does not read."""
        self._flow.pause_writing()
        self._writing.start(self._state.options.write_timeout, self._write_late)

    def resume_writing(self) -> None:
        """Stop counting: the client reads."""
        self._flow.resume_writing()
        self._writing.stop()
        self._read_soon()

    def _write_late(self) -> None:
        self._give_up("the client read nothing of its answers", self._state.options.write_timeout)

    def _give_up(self, why: str, seconds: float) -> None:
        _log.info("websocket_cut", reason=why, seconds=seconds)
        self.transport.abort()

    # The end

    def eof_received(self) -> None:
        """Take a client that closes its side for gone."""
        self.transport.abort()

    def shutdown(self) -> None:
        """Take no further requests, and close when the last answer is out."""
        if self._session is not None:
            self._session.drain("this socket ends; open another one")

    def cut(self) -> None:
        """End the running requests: the time to drain is up."""
        if self._session is not None:
            self._session.cut()
        else:
            self.transport.abort()

    def idle_since(self) -> float | None:
        """Return the loop's time since which nothing runs here; None while a request runs or the connection closes."""
        return None if self.transport.is_closing() or self._session is None else self._busy_since

    def make_way(self) -> None:
        """Close an idle socket at once, so that another client finds a place."""
        self._give_place_back()
        self.close(Closing.TRY_LATER, "another client needs the connection")
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop what runs for the client, and give back what the connection held."""
        self._leave()
        self._drop_unread()
        self._flow.resume_writing()
        self._flow.forget()
        for timer in (self._writing, self._closing):
            timer.stop()
        self._give_place_back()
        self._state.connections.discard(self)
        if not self._state.connections:
            self._state.empty.set()

    def _leave(self) -> None:
        """Tell the session, once, that nobody is there any more."""
        session, self._session = self._session, None
        if session is None:
            return
        for timer in (self._reading, self._idle, self._ping):
            timer.stop()
        self._oldest.cancel()
        self._message = None
        if self._booked:
            session.hold(-self._booked)
            self._booked = 0
        session.gone()

    def _give_place_back(self) -> None:
        place, self.place = self.place, None
        if place is not None:
            place.give_back()


def _reason(text: str) -> str:
    """Return a reason that fits into a closing frame (RFC 6455 section 5.5)."""
    return text.encode("ascii", "replace")[:120].decode()
