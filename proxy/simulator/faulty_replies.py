"""Replies with a fault: each does one step of a `Reply` otherwise."""

import asyncio
import itertools
import random
from typing import Final

from proxy.simulator.client_socket import ClientSocket
from proxy.simulator.faults import Fault, Kind
from proxy.simulator.generation_job import Piece, Speech
from proxy.simulator.http_reply import Headers, Reply, RunnerFailed, Struck
from proxy.simulator.refusals import MAX_QUEUE, Refuse, flavor_of, render
from proxy.simulator.request import Request


class Faulty(Reply):
    """A reply with the fault that strikes it."""

    def __init__(self, connection: ClientSocket, request: Request, fault: Fault) -> None:
        super().__init__(connection, request)
        self.fault = fault


class Striking(Faulty):
    """Strikes once, where the chunk with the number `after` would go out."""

    struck = False

    async def before(self) -> bool:
        """Strike before anything else, where `after` says so."""
        if self.fault.after == 0 and not self.fault.head:
            await self._once(b"")
        return False

    async def send(self, data: bytes) -> None:
        """Strike in the place of a chunk."""
        if self.chunks == self.fault.after:
            await self._once(data)
        await super().send(data)

    async def end(self) -> None:
        """Strike in the place of the end."""
        if self.chunks == self.fault.after:
            await self._once(b"")
        await super().end()

    async def _once(self, data: bytes) -> None:
        if not self.struck:
            self.struck = True
            if head := self._take_head():
                await self._write(head)
            await self._strike(data)

    async def _strike(self, data: bytes) -> None:
        """Carry out the fault; `data` is the next chunk, if any."""
        raise NotImplementedError


class Reset(Striking):
    """Closes by RST."""

    async def _strike(self, data: bytes) -> None:
        await self.connection.flush()
        self.connection.reset()
        raise Struck


class Close(Striking):
    """Closes by FIN, without the end of the body."""

    async def _strike(self, data: bytes) -> None:
        raise Struck


class Stall(Striking):
    """Silence, and then on as if nothing had been."""

    async def _strike(self, data: bytes) -> None:
        if not self.fault.delay:
            await self.fault.released.wait()
            return
        try:
            async with asyncio.timeout(self.fault.delay):
                await self.fault.released.wait()
        except TimeoutError:
            return


class Truncate(Striking):
    """Closes by FIN in the middle of a chunk."""

    async def before(self) -> bool:
        """Wait for the first chunk, of which half is sent."""
        return False

    async def _strike(self, data: bytes) -> None:
        framed = self._frame(data) if self._length is None else data
        await self._write(framed[: len(framed) // 2])
        raise Struck


class End(Truncate):
    """Ends cleanly before the record that says done."""

    async def _strike(self, data: bytes) -> None:
        if self._length is not None:
            raise Struck
        await self._write(self._tail())
        raise Struck(keep=not self.close_after)


class Length(Faulty):
    """Sends the whole body under a wrong Content-Length."""

    def __init__(self, connection: ClientSocket, request: Request, fault: Fault) -> None:
        super().__init__(connection, request, fault)
        self._status = 200
        self._fields: list[tuple[bytes, bytes]] = []
        self._body = bytearray()

    async def start(self, status: int, headers: Headers, length: int | None = None) -> None:
        """Keep the head back."""
        await super().start(status, headers, length)
        self._status, self._fields = status, list(headers)

    async def send(self, data: bytes) -> None:
        """Keep the chunk back."""
        self._body += data
        self.connection.host.sent(self.request, data)

    async def end(self) -> None:
        """Send all of it."""
        head = self._render_head(self._status, self._fields, self._lengths(len(self._body)))
        await self._write(head + bytes(self._body))
        if self.fault.delta > 0:
            raise Struck

    def _lengths(self, real: int) -> Headers:
        return [(b"Content-Length", b"%d" % max(0, real + self.fault.delta))]


class DuplicateLength(Length):
    """Sends two Content-Length fields."""

    def _lengths(self, real: int) -> Headers:
        return [(b"Content-Length", b"%d" % real), (b"Content-Length", b"%d" % (real + self.fault.delta))]


class Extra(Faulty):
    """Writes bytes behind the end, in the same write as the end unless `delay` sets them apart."""

    _held = b""

    async def _write(self, data: bytes) -> None:
        held, self._held = self._held, data
        if held:
            await super()._write(held)

    async def end(self) -> None:
        """Send the end and the bytes behind it."""
        await super().end()
        extra = self.fault.data or b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nextra"
        if self.fault.delay:
            await super()._write(self._held)
            await self.connection.flush()
            await asyncio.sleep(self.fault.delay)
            await super()._write(extra)
        else:
            await super()._write(self._held + extra)


class Junk(Faulty):
    """Sends bytes that are no response."""

    async def before(self) -> bool:
        """Send the bytes and close."""
        await self._write(self.fault.data or b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        raise Struck


class HugeHead(Faulty):
    """Sends a head larger than a client should accept."""

    def _render_head(self, status: int, headers: Headers, framing: Headers) -> bytes:
        padding = [(b"X-Padding-%d" % n, b"x" * self.fault.size) for n in range(self.fault.count)]
        return super()._render_head(status, [*headers, *padding], framing)


class Status(Faulty):
    """Refuses with the status of the fault."""

    async def before(self) -> bool:
        """Refuse."""
        kind, body = render(flavor_of(self.request.path), Refuse(self.fault.status, self.fault.message))
        await self.whole(
            self.fault.status, kind, body if self.fault.body is None else self.fault.body, self.fault.headers
        )
        return True


class Busy(Faulty):
    """Refuses with the 503 of a full queue."""

    async def before(self) -> bool:
        """Refuse, and count it."""
        self.connection.host.counters.busy += 1
        await self.whole(503, *render(flavor_of(self.request.path), Refuse(503, MAX_QUEUE)))
        return True


class Redirect(Faulty):
    """Redirects, with 307 unless told otherwise."""

    async def before(self) -> bool:
        """Redirect."""
        status = self.fault.status if 300 <= self.fault.status < 400 else 307
        await self.whole(status, b"", b"", [(b"Location", self.fault.location.encode()), *self.fault.headers])
        return True


class Error(Faulty):
    """Lets the model's process die."""

    def check(self, produced: int) -> None:
        """Die when it is time."""
        if produced == self.fault.after:
            raise RunnerFailed(self.fault.message)


class Repeat(Faulty):
    """Lets the model say one piece for ever, so that Ollama's guard ends the answer without a word."""

    def spoken(self, speech: Speech) -> Speech:
        """Return the beginning of the speech, and the piece without end."""
        same = Piece("content", (self.fault.data or b" la").decode())
        pieces = itertools.chain(itertools.islice(speech.pieces, self.fault.after), itertools.repeat(same))
        return Speech(pieces, speech.count, "stop")


class Split(Faulty):
    """Splits the response into other pieces than it was written in."""

    def __init__(self, connection: ClientSocket, request: Request, fault: Fault) -> None:
        super().__init__(connection, request, fault)
        self._offset = 0
        self._rng = random.Random(fault.seed + request.id)

    async def _write(self, data: bytes) -> None:
        begin = 0
        for end in self._cuts(len(data)):
            await super()._write(data[begin:end])
            await self.connection.flush()
            await asyncio.sleep(self.fault.delay)
            begin = end
        self._offset += len(data)

    def _cuts(self, size: int) -> list[int]:
        """Return where to cut the next `size` bytes, their end included."""
        first, fault = self._offset, self.fault
        cuts = {offset - first for offset in fault.at if first < offset < first + size}
        if fault.every:
            cuts.update(range(fault.every - first % fault.every, size, fault.every))
        if not fault.at and not fault.every and size > 1:
            cuts.update(self._rng.randrange(1, size) for _ in range(min(size // 8 + 1, 16)))
        return sorted(cuts | {size})


class Informational(Faulty):
    """Sends 1xx responses before the real one."""

    async def before(self) -> bool:
        """Send the 1xx responses."""
        status = self.fault.status if 100 <= self.fault.status < 200 else 103
        fields = b"".join(b"%s: %s\r\n" % field for field in self.fault.headers)
        await self._write(b"HTTP/1.1 %d Informational\r\n%s\r\n" % (status, fields) * self.fault.count)
        return False


class ChunkExtensions(Faulty):
    """Adds an extension to every chunk."""

    def _frame(self, data: bytes) -> bytes:
        return b"%x%b\r\n%b\r\n" % (len(data), self.fault.data or b";name=value", data)


class Trailers(Faulty):
    """Adds fields behind the last chunk."""

    def _tail(self) -> bytes:
        fields = self.fault.headers or ((b"X-Trailer", b"from the simulator"),)
        return b"0\r\n%b\r\n" % b"".join(b"%s: %s\r\n" % field for field in fields)


class Script(Faulty):
    """Sends the bytes of the script, one write each."""

    async def before(self) -> bool:
        """Play the parts."""
        for part in self.fault.parts:
            await self._write(part)
            await self.connection.flush()
            await asyncio.sleep(self.fault.delay)
        match self.fault.finish:
            case "reset":
                self.connection.reset()
            case "hang":
                self.connection.hold()
        raise Struck(keep=self.fault.finish == "keep")


REPLIES: Final[dict[Kind, type[Faulty]]] = {
    "reset": Reset,
    "close": Close,
    "stall": Stall,
    "truncate": Truncate,
    "end": End,
    "length": Length,
    "extra": Extra,
    "duplicate_length": DuplicateLength,
    "junk": Junk,
    "huge_head": HugeHead,
    "status": Status,
    "busy": Busy,
    "error": Error,
    "repeat": Repeat,
    "redirect": Redirect,
    "split": Split,
    "informational": Informational,
    "chunk_extensions": ChunkExtensions,
    "trailers": Trailers,
    "script": Script,
}
