"""The reading half of an open WebSocket: from bytes to messages, bounded and timed.

`websockets` reads the frames (sans I/O: masks, fragments, control frames, the closing handshake), and bounds a message
in all its fragments. What of a message is here while the rest is still to come is accounted for by the session.

A few bytes of a client can be many frames, and each of them costs time: so in one turn of the event loop only so many
are taken, and none while the client does not read what it is sent, or while the session reads a long message.
"""

import asyncio
import logging
from abc import abstractmethod
from typing import Final

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, Protocol, Side, State

from proxy.kernel.errors import Refused, let_go
from proxy.kernel.websocket import Closing, Session, SocketOptions
from proxy.server.deadline_timer import Deadline
from proxy.server.disconnect_watch import WatchedFlow
from proxy.server.server_state import GuardState

_MOST_UNREAD: Final = 4 * HIGH_WATER_LIMIT
"""Bytes that may wait to be read by a client before nothing more is read of it."""
_FRAMES_IN_A_TURN: Final = 64
"""Frames that are taken before others have their turn."""
_PIECE: Final = 2048
"""Bytes that are parsed at once: more than three hundred frames at worst."""
_MOST_AFTER_THE_END: Final = 65_536
"""Bytes that are looked through for a client's closing frame, once the session has ended; the rest is dropped."""

_quiet: Final = logging.getLogger("ollama_proxy.websocket_frames")
_quiet.setLevel(logging.WARNING)  # below it, `websockets` logs what people say


class WebSocketReader(asyncio.Protocol):
    """Reads the messages of one socket; `WebSocketConnection` does all else.

    Attributes:
        transport: the transport.
    """

    __slots__ = (
        "_begun", "_booked", "_flow", "_frames", "_heard", "_message", "_moved", "_next_turn", "_options", "_paused",
        "_protocol", "_reading", "_session", "_state", "_unparsed", "transport",
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
        """Bytes that were parsed, but are of no frame yet that was taken."""
        self._unparsed = b""
        """What came, but was not parsed yet."""
        self._frames: list[Event] = []
        """Frames that were parsed, but not taken yet."""
        self._next_turn: asyncio.Handle | None = None
        """The turn of the event loop in which reading goes on; None where it need not."""
        self._paused = False
        """Whether the session takes no messages now."""
        self._booked = 0
        """Bytes of all these that the session has accounted for."""
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
        if self._session is None and len(self._unparsed) + self._begun > _MOST_AFTER_THE_END:
            return
        self._unparsed = self._unparsed + data if self._unparsed else data
        if self._next_turn is None:
            self._read_on()

    def pause(self) -> None:
        """Take no further messages before `go_on`."""
        self._paused = True

    def go_on(self) -> None:
        """Take messages again, in another turn of the event loop."""
        self._paused = False
        self._read_soon()

    def _read_soon(self) -> None:
        if self._next_turn is None and not self.transport.is_closing():
            self._next_turn = asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        """Take the frames that are here, as many as one turn may."""
        self._next_turn = None
        left, data, at = _FRAMES_IN_A_TURN, self._unparsed, 0
        while left and self._takes():
            if self._frames:
                left -= 1
                self._take(self._frames.pop(0))
            elif at < len(data):
                self._parse(data[at : at + _PIECE])
                at += _PIECE
            else:
                break
        self._unparsed = data[at:]
        self._note_unfinished()
        if self.transport.is_closing():
            return
        if not self._frames and not self._unparsed and not self._paused:
            self._flow.resume_reading()
        else:
            self._flow.pause_reading()
            if self._takes():
                self._read_soon()

    def _takes(self) -> bool:
        """Return whether frames may be taken now; `go_on` and `resume_writing` end the time in which not."""
        return not self._paused and self.transport.get_write_buffer_size() <= _MOST_UNREAD

    def _drop_unread(self) -> None:
        """Take nothing more: the connection is gone."""
        if self._next_turn is not None:
            self._next_turn.cancel()
        self._unparsed, self._frames = b"", []

    def _parse(self, piece: bytes) -> None:
        self._protocol.receive_data(piece)
        self._begun += len(piece)
        self._frames.extend(self._protocol.events_received())
        self._flush()

    def _take(self, frame: Event) -> None:
        session = self._session
        if not isinstance(frame, Frame) or session is None:
            return
        self._begun -= _wire_size(len(frame.data))
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
        self._book(0)  # from here on the session accounts for it
        session.text(message)

    def _note_unfinished(self) -> None:
        """Account for the part of a message that is here, and time the rest."""
        if self._session is None:
            return
        begun = len(self._message or b"") + max(0, self._begun) + len(self._unparsed)
        try:
            self._book(begun)
        except Refused as refused:
            let_go(refused)
            self.close(Closing.TRY_LATER, refused.message)
            return
        if begun:
            self._reading.start(self._state.options.body_timeout, self._message_late)
        else:
            self._reading.stop()

    def _book(self, size: int) -> None:
        """Let the session account for `size` bytes; raises Refused."""
        if size != self._booked and self._session is not None:
            self._session.hold(size - self._booked)
            self._booked = size

    def _message_late(self) -> None:
        if self._moved or self._flow.read_paused:
            self._moved = False
            self._reading.start(self._state.options.body_timeout, self._message_late)
        else:
            self.close(Closing.TOO_LATE, "the rest of a message did not come in time (timer body)")


def _wire_size(length: int) -> int:
    """Return the bytes of a frame of a client whose payload has this length (RFC 6455 section 5.2)."""
    return length + (6 if length < 126 else 8 if length < 65536 else 14)
