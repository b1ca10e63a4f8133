"""A backend's answer to one request: its head, then its body as items that go from the parser to one reader.

The connection puts items in, the reader takes them out; a deque and one future are all there is between the socket and
the relaying loop. An item whose reader is waiting never touches the deque, and an item that is already here is taken
without suspending. While the reader lets items `flow`, the reader is not even woken for them.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, Self

import httpx

from proxy.kernel.asgi import Header

Sink = Callable[[bytes], bool]
"""Takes an item; returns whether it takes more at once."""
Framing = Literal["length", "chunked", "close", "none"]
"""The mark of a body's end: Content-Length, the last chunk, the end of the connection, or no body at all."""

BEHIND: Final = 64 * 1024
"""Bytes waiting for the reader from which on nothing more is read from the socket."""
CAUGHT_UP: Final = 16 * 1024
"""Bytes waiting for the reader down to which reading goes on."""
_ITEM_COST: Final = 64
"""Bytes that an item counts for besides its own, so that a flood of tiny chunks is bounded too."""


class Source(ABC):
    """The connection, as an answer sees it."""

    __slots__ = ()

    @abstractmethod
    def pause(self) -> None:
        """Stop reading from the socket."""

    @abstractmethod
    def resume(self) -> None:
        """Read again."""

    @abstractmethod
    def abort(self) -> None:
        """Close the socket at once."""


class Answer(httpx.AsyncByteStream):
    """The answer to one request; also the stream of its `httpx.Response`.

    One task reads it, to the end or until `aclose`. A read that is cancelled closes the connection: nobody wants the
    rest, and closing is what makes Ollama stop.

    Attributes:
        status: 200 to 599.
        headers: the fields as they came, in order; names in lower case, values without surrounding white space.
        framing: how the end of the body is known.
        version: ``b"HTTP/1.1"`` or ``b"HTTP/1.0"``.
        reused: whether the connection had served an earlier request.
        begun: whether status and headers are in.
    """

    def __init__(self, source: Source, loop: asyncio.AbstractEventLoop, *, reused: bool) -> None:
        self.status = 0
        self.headers: list[Header] = []
        self.framing: Framing = "none"
        self.version = b"HTTP/1.1"
        self.reused = reused
        self._source: Source | None = source  # until the end has come
        self._loop = loop
        self.begun = False
        self._items: deque[bytes] = deque()
        self._waiting = 0  # cost of what is in _items
        self._paused = False
        self._reader: asyncio.Future[bytes] | None = None
        self._sink: Sink | None = None
        self._error: Exception | None = None

    # The reader's side

    async def head(self) -> None:
        """Return once status and headers are in; raise what prevented it."""
        if not self.begun and self._source is not None:
            await self._wait()
        if not self.begun and self._error is not None:
            raise self._error

    async def read(self) -> bytes:
        """Return the next item, at once if it is here; ``b""`` at the end, ever again.

        Raises:
            httpx.TransportError: the answer broke off; every item that came before it was returned.
            httpx.StreamClosed: after `aclose`.
        """
        if self._items:
            item = self._items.popleft()
            self._waiting -= len(item) + _ITEM_COST
            if self._paused and self._waiting <= CAUGHT_UP:
                self._resume()
            return item
        if self._source is not None:
            item = await self._wait()
            if item:
                return item
        if self._error is not None:
            raise self._error
        return b""

    @property
    def ended(self) -> bool:
        """Return whether the body is complete and every item was taken: the next `read` returns ``b""``."""
        return self._source is None and self._error is None and not self._items

    async def flow(self, sink: Sink) -> None:
        """Hand items to `sink` as they come, until it returns False or the answer ends; then `read` goes on.

        Between the parser and `sink` nothing is scheduled and no task is woken. It must be quick, and never raise.
        """
        if self._items or self._source is None:
            return
        self._sink = sink
        try:
            await self._wait()
        finally:
            self._sink = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        item = await self.read()
        if not item:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """Let go of the answer. Before its end that closes the connection at once."""
        if self.ended:
            return
        self._items.clear()
        if self._source is not None:
            self._source.abort()
        elif self._error is None:
            self._error = httpx.StreamClosed()

    async def _wait(self) -> bytes:
        if self._reader is not None:
            raise RuntimeError("another task is reading this answer")
        self._reader = self._loop.create_future()
        try:
            return await self._reader
        except BaseException:  # cancelled
            if self._source is not None:
                self._source.abort()
            raise

    def _resume(self) -> None:
        self._paused = False
        if self._source is not None:
            self._source.resume()

    # The connection's side

    def begin(self) -> None:
        """Wake the reader: status and headers are in."""
        self.begun = True
        self._wake(b"")

    def put(self, item: bytes) -> None:
        """Hand over an item, which is not empty."""
        if self._sink is not None:
            if not self._sink(item):
                self._sink = None
                self._wake(b"")
            return
        reader = self._reader
        if reader is not None:
            self._reader = None
            if not reader.done():  # else it was cancelled, and its task is about to close the connection
                reader.set_result(item)
            return
        self._items.append(item)
        self._waiting += len(item) + _ITEM_COST
        if self._waiting > BEHIND and not self._paused and self._source is not None:
            self._paused = True
            self._source.pause()

    def end(self, error: Exception | None) -> None:
        """End the answer: the body is complete, or `error` tells why it is not."""
        self._source = None
        self._error = error
        self._wake(b"")

    def _wake(self, item: bytes) -> None:
        reader = self._reader
        if reader is not None:
            self._reader = None
            if not reader.done():
                reader.set_result(item)
