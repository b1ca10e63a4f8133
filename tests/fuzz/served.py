"""Bytes given to the server's connections as a socket would, without one: what the application got, what went back."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from uvicorn.config import Config

from proxy.kernel.asgi import Header
from proxy.server.guarded_protocol import GuardedProtocol
from proxy.server.server_state import GuardState
from tests.support.options import server_options
from tests.support.raw import Recorder

PEER: Final = ("127.0.0.1", 40_000)
HERE: Final = ("127.0.0.1", 11_435)


class Pipe(asyncio.Transport):
    """The other end of a connection: keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.ended = False
        self.closed = False

    def get_extra_info(self, name: str, default: object = None) -> Any:
        return {"socket": _Socket(), "peername": PEER, "sockname": HERE}.get(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended, "something was written behind the end"
        if not self.closed:
            self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0


class _Socket:
    def fileno(self) -> int:
        return -1

    def getpeername(self) -> tuple[str, int]:
        return PEER

    def getsockname(self) -> tuple[str, int]:
        return HERE


@dataclass(frozen=True)
class Got:
    """One request as the application had it; the fields of its head without white space around their values."""

    method: bytes
    target: bytes
    version: bytes
    headers: tuple[Header, ...] = field(repr=False)
    body: bytes


@dataclass(frozen=True)
class Served:
    """What became of a connection's bytes.

    Attributes:
        requests: those that came to the application whole.
        refused: the code of the refusal; None where there was none.
        written: what the client got.
    """

    requests: tuple[Got, ...]
    refused: str | None
    written: bytes = field(repr=False)


@cache
def _machinery() -> tuple[asyncio.AbstractEventLoop, list[Recorder], Config]:
    loop = asyncio.new_event_loop()
    current = [Recorder()]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await current[0](scope, receive, send)

    config = Config(
        app, http=GuardedProtocol, ws="none", lifespan="off", interface="asgi3", log_config=None, access_log=False
    )
    config.load()
    return loop, current, config


def serve(pieces: Iterable[bytes]) -> Served:
    """Feed `pieces` to a new connection one by one, and let the application answer after each."""
    loop, current, config = _machinery()
    app = current[0] = Recorder()
    problems: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: problems.append(context))
    state = GuardState(server_options(), None)
    state.note_refusal = lambda refused, *_: state.refused.counted.update([refused.code])  # type: ignore[method-assign]
    connection, pipe = GuardedProtocol(config, state, {}, loop), Pipe()
    connection.connection_made(pipe)
    for piece in pieces:
        if pipe.closed:
            break
        connection.data_received(piece)
        _run(loop)
    if not pipe.closed:
        connection.eof_received()
    connection.connection_lost(None)
    _run(loop)
    assert not problems, problems
    assert not state.tasks, "an application was left waiting"
    codes = list(state.refused.counted.elements())
    assert len(codes) < 2, f"refused more than once: {codes}"
    whole = tuple(_got(seen) for seen in app.seen if seen.complete)
    return Served(whole, codes[0] if codes else None, bytes(pipe.written))


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Let the applications run until none of them can go on."""
    while loop._ready:  # type: ignore[attr-defined]  # asyncio's own list of what can run
        loop.call_soon(loop.stop)
        loop.run_forever()


def _got(seen: Any) -> Got:
    scope = seen.scope
    headers = tuple((name, value.strip(b" \t")) for name, value in scope["headers"])
    return Got(scope["method"].encode(), seen.target, scope["http_version"].encode(), headers, seen.body)
