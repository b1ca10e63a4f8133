"""One request as it came over the wire: its head, its body, and its outcome."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

from proxy.simulator import go_json

State = Literal["open", "done", "cancelled", "failed"]


class ClientGone(Exception):
    """The client closed its connection before it was served."""


class Request:
    """One request as it came over the wire, and its outcome.

    Attributes:
        id: counts from 1 in the order of arrival.
        connection: number of its connection, from 1; equal numbers shared one.
        remote_port: the client's port, 0 on a unix socket.
        method, target, headers: as sent; target and headers are bytes, header names keep their case.
        path, raw_path, query: of the target, `path` percent-decoded as Go does before it routes.
        body_bytes: length of the body so far, uploads included.
        complete: whether the body has arrived to its end; `chunked` whether it came in chunks.
        route: the pattern that matched (``/v1/models/{model}``), or None.
        parameters: what the pattern's braces stand for.
        model: key of the model that was asked for, once known.
        cloud: whether it was passed on to the (simulated) cloud.
        status: of the answer, once begun.
        sent: body of the answer as handed to the wire, one item per chunk, without framing.
        tokens: tokens delivered in it.
        state: ``open`` until answered; ``cancelled`` by the client, ``failed`` by a fault.
        fault: kind of the fault that struck it.
    """

    __slots__ = (
        "_body",
        "_unread",
        "_wake",
        "body_bytes",
        "chunked",
        "cloud",
        "complete",
        "connection",
        "fault",
        "headers",
        "id",
        "keep_alive",
        "lost",
        "method",
        "model",
        "on_read",
        "parameters",
        "path",
        "query",
        "raw_path",
        "remote_port",
        "route",
        "sent",
        "sent_chunks",
        "state",
        "status",
        "streamed",
        "target",
        "tokens",
        "version",
    )  # fmt: skip

    def __init__(
        self, id: int, connection: int, remote_port: int, method: str, target: bytes, headers: list[tuple[bytes, bytes]]
    ) -> None:
        self.id = id
        self.connection = connection
        self.remote_port = remote_port
        self.method = method
        self.target = target
        self.headers = headers
        self.version = "1.1"
        self.keep_alive = True
        path, _, self.query = _origin_form(target).partition(b"?")
        self.raw_path = path.decode("latin-1")
        self.path = unquote_to_bytes(path).decode("utf-8", "replace")
        self._body = bytearray()
        self.body_bytes = 0
        self.complete = False
        self.chunked = False
        self.lost = False
        self.route: str | None = None
        self.parameters: dict[str, str] = {}
        self.model: str | None = None
        self.cloud = False
        self.status: int | None = None
        self.sent: list[bytes] = []
        self.sent_chunks = 0
        self.tokens = 0
        self.state: State = "open"
        self.fault: str | None = None
        self.streamed = False
        self.on_read: Callable[[], None] | None = None
        self._unread: deque[bytes] = deque()
        self._wake: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<{self.method} {self.target.decode('latin-1')} #{self.id} {self.status or '-'} {self.state}>"

    def header(self, name: str | bytes) -> bytes | None:
        """Return the first value of `name`, in whatever case it was sent, or None."""
        values = self.all(name)
        return values[0] if values else None

    def all(self, name: str | bytes) -> list[bytes]:
        """Return every value of `name`, in order."""
        wanted = (name.encode() if isinstance(name, str) else name).lower()
        return [value for key, value in self.headers if key.lower() == wanted]

    def json(self) -> Any:
        """Return the body as Go would put it into an ``interface {}``."""
        return go_json.plain(go_json.parse(self.body))

    @property
    def body(self) -> bytes:
        """The body as far as it has arrived; uploads of blobs keep none."""
        return bytes(self._body)

    @property
    def answer(self) -> bytes:
        """The whole body of the answer as sent so far."""
        return b"".join(self.sent)

    @property
    def unread(self) -> int:
        """Return the bytes of a streamed body that have arrived and were not taken yet."""
        return sum(map(len, self._unread))

    async def read(self) -> bytes:
        """Wait for the whole body.

        Raises:
            ClientGone: the connection broke first.
        """
        if not self.complete and self.on_read:
            self.on_read()
        while not self.complete:
            await self._wait()
        return self.body

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; the client waits while parts are not taken."""
        if not self.complete and self.on_read:
            self.on_read()
        while True:
            while self._unread:
                data = self._unread.popleft()
                if self.on_read:
                    self.on_read()
                yield data
            if self.complete:
                return
            await self._wait()

    async def _wait(self) -> None:
        if self.lost:
            raise ClientGone
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    def feed(self, data: bytes) -> None:
        """Take in a part of the body (called by the connection)."""
        self.body_bytes += len(data)
        if self.streamed:
            self._unread.append(data)
        else:
            self._body += data
        self._notify()

    def finish(self, *, lost: bool = False) -> None:
        """Note the end of the body, or that it will never come."""
        if lost:
            self.lost = True
        else:
            self.complete = True
        self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


def _origin_form(target: bytes) -> bytes:
    """Return the target without scheme and authority; Go takes both forms."""
    lowered = target[:8].lower()
    for scheme in (b"http://", b"https://"):
        if lowered.startswith(scheme):
            slash = target.find(b"/", len(scheme))
            return target[slash:] if slash >= 0 else b"/"
    return target
