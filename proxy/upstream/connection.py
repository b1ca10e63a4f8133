"""A connection to a backend, an asyncio protocol: writes a request, feeds the answer to its parser, keeps its timers.

Requests follow one another, never side by side. For a chunk of an answer there run `Connection.data_received`,
`AnswerParser.feed`, httptools, `on_body`, `on_chunk_complete` and `Answer.put`: nothing is scheduled or timed for it.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, NamedTuple, Protocol, cast

import httpx

from proxy.upstream.answer import Answer, Source
from proxy.upstream.failures import (
    BadResponse,
    CutShort,
    Disconnected,
    HeadTimedOut,
    IdleTimedOut,
    Unsendable,
    WriteTimedOut,
)
from proxy.upstream.lazy_timer import LazyTimer
from proxy.upstream.parser import AnswerParser
from proxy.upstream.request_bytes import LAST_CHUNK, Outgoing, Upload, chunk
from proxy.upstream.timeouts import NEVER, Timeouts

_JOIN: Final = 16 * 1024
"""Bytes of body up to which head and body are copied into one buffer rather than written as two."""
_EARLY: Final = 0.002
"""Seconds by which a timer may be early: uvloop's clock counts milliseconds."""


class Bounds(NamedTuple):
    """The bounds of a connection: of an answer's head, and of the seconds that it may be idle."""

    head_bytes: int
    head_fields: int
    idle_expiry: float


class Owner(Protocol):
    """The keeper of the connections."""

    def release(self, connection: "Connection") -> None:
        """Take back `connection`, which is idle and can take the next request."""

    def lost(self, connection: "Connection") -> None:
        """Forget `connection`, whose socket is closed."""


class Connection(asyncio.Protocol, Source):
    """Speaks HTTP/1.1 to a backend over one socket, for `owner`, who has it connected."""

    def __init__(self, owner: Owner, bounds: Bounds, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._bounds = bounds
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._closed = False
        self.hung_up = False
        """Whether the backend closed the connection while it was idle; a backend that stops does so."""
        self._served = 0  # requests, the running one included

        self._answer: Answer | None = None  # both None: idle
        self._parser: AnswerParser | None = None
        self._paused = False  # we do not read

        self._uploading = False  # the request body is not all written
        self._begun = False  # a byte of the request was handed to the socket
        self._blocked = False  # the transport keeps bytes that the kernel did not take
        self._drained: asyncio.Future[None] | None = None

        self._timer = LazyTimer(loop, self._check)
        self._timeouts = NEVER
        self._wrote = 0.0  # when the kernel took the last bytes of the request
        self._unsent = 0  # bytes that were left then
        self.made = self.heard = loop.time()
        """When it was made, and when the last bytes came, or reading went on."""

    @property
    def connected(self) -> bool:
        """Return whether a socket was ever connected."""
        return self._transport is not None

    @property
    def closed(self) -> bool:
        """Return whether the connection can take no request any more."""
        return self._closed or self._transport is None or self._transport.is_closing()

    async def exchange(self, outgoing: Outgoing, timeouts: Timeouts) -> Answer:
        """Write a request and return its answer as soon as status and headers are in.

        An answer that begins before the whole body is written is returned as well; the upload then stops, and the
        connection serves no other request.

        Raises:
            TransportFailure: no answer came, or none we accept. The connection is closed.
            Exception: whatever the iterator of a streamed body raised, unchanged.
        """
        bounds = self._bounds
        answer = self._answer = Answer(self, self._loop, reused=self._served > 0)
        self._parser = AnswerParser(
            answer, bodiless=outgoing.bodiless, head_bytes=bounds.head_bytes, head_fields=bounds.head_fields
        )
        self._served += 1
        self._timeouts = timeouts
        self._uploading = outgoing.upload is not None
        self._begun = False
        self._write(outgoing.head, outgoing.body)
        if outgoing.upload is None:
            await answer.head()
        else:
            await self._upload(outgoing.upload, answer)
        if self._answer is answer:
            self._timer.ask(self._due())
        return answer

    def abort(self, error: Exception | None = None) -> None:
        """Close the socket at once, whatever is under way; the answer, if one is, ends with `error`.

        TLS is not told goodbye: HTTP's framing says whether an answer is complete.
        """
        self._closed = True
        self._timer.cancel()  # of one that is yet to be connected no loss is told
        self._end(error or httpx.StreamClosed())
        if self._transport is not None:
            self._transport.abort()

    # The socket; asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket; the connection can take a request."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=1, low=0)  # "paused" shall mean: the kernel has not got it all
        if self._closed:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; bytes that belong to no request close the connection."""
        parser = self._parser
        if parser is None:  # nobody asked for them
            self.abort()
            return
        self.heard = self._loop.time()
        try:
            parser.feed(data)
        except BadResponse as error:
            self.abort(error)
            return
        if parser.complete:
            self._finish(parser)

    def eof_received(self) -> None:
        """End the answer: the backend will send no more."""
        self.hung_up = self._parser is None
        self._end(self._loss(None))
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End what is under way: the socket is closed."""
        self._closed = True
        self.hung_up = self.hung_up or (exc is not None and self._parser is None)
        self._timer.cancel()
        self._end(self._loss(exc))
        self._wake_upload()
        self._owner.lost(self)

    def pause_writing(self) -> None:
        """Hold the upload: the kernel does not take all of the request."""
        self._blocked = True
        self._mark_written()

    def resume_writing(self) -> None:
        """Go on with the upload: the kernel has got all that was written."""
        self._blocked = False
        self._mark_written()
        self._wake_upload()

    # The answer

    def pause(self) -> None:
        """Stop reading: the reader of the answer is behind."""
        self._paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._paused = False
        self.heard = self._loop.time()
        self._timer.ask(self._due())
        if self._transport is not None:
            self._transport.resume_reading()

    def _finish(self, parser: AnswerParser) -> None:
        reusable = parser.keep_alive and not (parser.surplus or self._uploading or self._blocked or self.closed)
        if self._paused:
            self.resume()
        self._end(None)
        if reusable:
            self._timer.ask(self._due())
            self._owner.release(self)
        else:
            self.abort()

    def _end(self, error: Exception | None) -> None:
        if self._answer is not None and self._parser is not None:
            self._answer.end(error)
            self._parser.close()
            self._answer = self._parser = None

    def _loss(self, exc: Exception | None) -> Exception | None:
        """Return the error that the end of the connection is for the answer; None where it completes the answer."""
        answer, parser = self._answer, self._parser
        if answer is None or parser is None:
            return None
        how = "closed the connection" if exc is None else f"broke the connection ({exc})"
        if not parser.head_in:
            return Disconnected(
                f"the backend {how} before it answered", sent=self._begun, received=parser.begun, reused=answer.reused
            )
        if exc is not None:
            return Disconnected(
                f"the backend {how} in the middle of its answer", sent=True, received=True, reused=answer.reused
            )
        if answer.framing == "close":
            return None
        promise = "all that its Content-Length announced" if answer.framing == "length" else "the last chunk"
        return CutShort(f"the backend {how} before {promise}", sent=True, received=True, reused=answer.reused)

    # The request

    def _write(self, *parts: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return  # `connection_lost` follows
        if sum(map(len, parts)) <= _JOIN:
            parts = (b"".join(parts),)
        for part in parts:  # asyncio's `writelines` calls no `pause_writing` before 3.12.9 and 3.13.2 (CVE-2024-12254)
            self._transport.write(part)
        self._begun = True
        self._mark_written()

    def _mark_written(self) -> None:
        self._wrote = self._loop.time()
        self._unsent = self._transport.get_write_buffer_size() if self._blocked and self._transport else 0
        self._timer.ask(self._due())

    async def _upload(self, upload: Upload, answer: Answer) -> None:
        """Write a streamed body until the answer begins."""
        task = self._loop.create_task(self._send(upload, answer))
        try:
            try:
                await answer.head()
            finally:
                task.cancel()
                await asyncio.wait([task])
        except BaseException:
            await answer.aclose()  # cancelled in that wait, the caller never gets the answer
            raise

    async def _send(self, upload: Upload, answer: Answer) -> None:
        pieces = aiter(upload.stream)
        try:
            await self._send_all(pieces, upload.length, answer)
        except (Exception, asyncio.CancelledError) as error:
            if self._answer is answer and not answer.begun:  # else it is we who cancelled, or nobody needs to know
                self.abort(error if isinstance(error, Exception) else Unsendable("the body was cancelled", sent=True))
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()

    async def _send_all(self, pieces: AsyncIterator[bytes], left: int | None, answer: Answer) -> None:
        async for piece in pieces:
            if self._answer is not answer:
                return
            if left is not None:
                left -= len(piece)
                if left < 0:
                    raise Unsendable("the body is longer than its Content-Length", sent=True)
            if piece:  # an empty chunk would be the last one
                self._write(chunk(piece) if left is None else piece)
            if self._blocked:
                await self._drain()
        if left:
            raise Unsendable(f"the body ended {left} bytes before its Content-Length", sent=True)
        if self._answer is not answer:
            return
        self._uploading = False
        if left is None:
            self._write(LAST_CHUNK)
        else:
            self._mark_written()

    async def _drain(self) -> None:
        self._drained = self._loop.create_future()
        try:
            await self._drained
        finally:
            self._drained = None

    def _wake_upload(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # The clock

    def _due(self) -> float:
        """Return the loop's time at which the timer runs out that runs now."""
        if self._parser is None:
            return self.heard + self._bounds.idle_expiry
        if self._parser.head_in:
            return math.inf if self._paused else self.heard + self._timeouts.idle
        if self._blocked:
            return self._wrote + self._timeouts.write
        if self._uploading:  # for the next piece from the caller
            return math.inf
        return self._wrote + self._timeouts.first_byte

    def _check(self) -> float:
        """End the exchange where its timer has run out; return when to look again."""
        now = self._loop.time()
        if now < self._due() - _EARLY:
            return self._due()
        parser, timeouts = self._parser, self._timeouts
        if parser is None:
            self.abort()
        elif parser.head_in:
            silence = f"the backend sent nothing for {timeouts.idle:g} s"
            self.abort(IdleTimedOut(silence, sent=True, received=True, timer=timeouts.timer))
        elif not self._blocked:
            silence = f"the backend did not answer within {timeouts.first_byte:g} s"
            self.abort(HeadTimedOut(silence, sent=True, timer=timeouts.timer))
        elif (unsent := self._transport.get_write_buffer_size() if self._transport else 0) < self._unsent:
            self._wrote, self._unsent = now, unsent
            return self._due()
        else:
            self.abort(WriteTimedOut(f"the backend took nothing of the request for {timeouts.write:g} s", sent=True))
        return math.inf
