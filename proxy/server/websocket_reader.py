"""The reading half of an open WebSocket: from bytes to messages, bounded and timed.

`websockets` reads the frames (sans I/O: masks, fragments, control frames, the closing handshake), and bounds a message
in all its fragments. What of a message is here while the rest is still to come is accounted for by the session.
"""

import asyncio
import logging
from abc import abstractmethod
from typing import Final

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from proxy.kernel.errors import Refused, let_go
from proxy.kernel.websocket import Closing, Session, SocketOptions
from proxy.server.deadline_timer import Deadline
from proxy.server.disconnect_watch import WatchedFlow
from proxy.server.server_state import GuardState

_MOST_PONGS: Final = 4 * HIGH_WATER_LIMIT
"""Bytes that may wait to be read by a client before nothing more is read of it."""

_quiet: Final = logging.getLogger("ollama_proxy.websocket_frames")
_quiet.setLevel(logging.WARNING)  # below it, `websockets` logs what people say


class WebSocketReader(asyncio.Protocol):
    """Reads the messages of one socket; `WebSocketConnection` does all else.

    Attributes:
        transport: the transport.
    """

    __slots__ = (
        "_begun", "_booked", "_flow", "_heard", "_message", "_moved", "_options", "_protocol", "_reading", "_session",
        "_state", "transport",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, state: GuardState, options: SocketOptions) -> None:
        self.transport = transport
        self._state, self._options = state, options
        self._flow = WatchedFlow(transport, state.disconnect_watch)
        self._protocol = Protocol(Side.SERVER, max_size=options.message, logger=_quiet)
        self._session: Session | None = None
        """Who is told what comes; None before the first frame, and once the socket closes."""
        self._message: bytearray | None = None
        """The fragments of a message that has begun."""
        self._begun = 0
        """Bytes of a frame that has begun."""
        self._booked = 0
        """Bytes of both that the session has accounted for."""
        self._moved = self._heard = False
        """Whether anything came since the last look of the timer for a message, and since the last ping."""
        self._reading = Deadline(asyncio.get_running_loop())

    @abstractmethod
    def close(self, code: Closing, reason: str) -> None:
        """Close the socket."""

    @abstractmethod
    def _flush(self) -> None:
        """Write what `websockets` wants to say: pongs and closing frames."""

    @abstractmethod
    def _leave(self) -> None:
        """Tell the session, once, that nobody is there any more."""

    def data_received(self, data: bytes) -> None:
        """Take what arrived."""
        self._heard = self._moved = True
        protocol = self._protocol
        protocol.receive_data(data)
        self._begun += len(data)
        for event in protocol.events_received():
            if isinstance(event, Frame) and self._session is not None:
                self._begun -= _wire_size(len(event.data))
                self._take(event, self._session)
        self._flush()
        self._note_unfinished()
        if self.transport.get_write_buffer_size() > _MOST_PONGS:
            self._flow.pause_reading()

    def _take(self, frame: Frame, session: Session) -> None:
        if frame.opcode is Opcode.CLOSE:
            self._leave()
        elif frame.opcode is Opcode.BINARY:
            self.close(Closing.UNSUPPORTED, "messages are text: JSON")
        elif frame.opcode is Opcode.TEXT and frame.fin:
            self._say(bytes(frame.data), session)
        elif frame.opcode is Opcode.TEXT:
            self._message = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT and self._message is not None:
            self._message += frame.data
            if frame.fin:
                whole, self._message = bytes(self._message), None
                self._say(whole, session)

    def _say(self, message: bytes, session: Session) -> None:
        if self._protocol.state is not State.OPEN:
            return
        try:
            message.decode()
        except UnicodeDecodeError:
            self.close(Closing.BAD_TEXT, "a text message must be UTF-8")
            return
        session.text(message)

    def _note_unfinished(self) -> None:
        """Account for the part of a message that is here, and time the rest."""
        if self._session is None:
            return
        begun = len(self._message or b"") + max(0, self._begun)
        if begun != self._booked:
            try:
                self._session.hold(begun - self._booked)
            except Refused as refused:
                let_go(refused)
                self.close(Closing.TRY_LATER, refused.message)
                return
            self._booked = begun
        if begun:
            self._reading.start(self._state.options.body_timeout, self._message_late)
        else:
            self._reading.stop()

    def _message_late(self) -> None:
        if self._moved or self._flow.read_paused:
            self._moved = False
            self._reading.start(self._state.options.body_timeout, self._message_late)
        else:
            self.close(Closing.TOO_LATE, "the rest of a message did not come in time (timer body)")


def _wire_size(length: int) -> int:
    """Return the bytes of a frame of a client whose payload has this length (RFC 6455 section 5.2)."""
    return length + (6 if length < 126 else 8 if length < 65536 else 14)
