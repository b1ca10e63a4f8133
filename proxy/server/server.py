"""The server's life: start, serve on several listeners, drain.

uvicorn's own `Server` listens on one address, polls while it stops, and would let a cancelled response end unseen; so
only its HTTP protocol and its lifespan are used here.
"""

import asyncio
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Final, cast

from uvicorn._types import ASGIApplication
from uvicorn.config import Config
from uvicorn.lifespan.on import LifespanOn

from proxy.kernel.asgi import ASGIApp
from proxy.server.acceptor import Acceptor
from proxy.server.connection_counts import ConnectionCounts
from proxy.server.disconnect_watch import DisconnectWatch
from proxy.server.guarded_protocol import GuardedProtocol
from proxy.server.listeners import ServerError, address, tls_context
from proxy.server.listening import Listening, ServerOptions, listen
from proxy.server.server_state import Bounds, GuardState
from proxy.server.systemd import stopping

SETTLE_SECONDS: Final = 5.0
"""Seconds for cancelled requests to end, with their log line, and for their last bytes to leave."""


@dataclass(frozen=True)
class Seat:
    """The place of a server among several processes that serve the same addresses.

    Attributes:
        sockets: listen already; every process has them.
        counts: of connections, in all of these processes; None to count this one's alone.
    """

    sockets: Sequence[socket.socket]
    counts: ConnectionCounts | None = None


class Server:
    """Serves one ASGI application: `start` and `drain` inside an event loop, or `run` as a process."""

    def __init__(self, app: ASGIApp, options: ServerOptions, seat: Seat | None = None) -> None:
        self.options = options
        self._seat = seat
        self.addresses: tuple[str, ...] = ()
        """The addresses listened on, in the notation of `ServerOptions.listen`, with real ports."""
        self.exposed: tuple[str, ...] = ()
        """The addresses among them that other machines can reach."""
        self.serving = False
        self._config = Config(
            cast("ASGIApplication", app),
            http=GuardedProtocol,
            ws="none",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        self._context: ssl.SSLContext | None = None
        self._stop = asyncio.Event()
        self._patience: asyncio.Timeout | None = None
        self._until = 0.0
        self._hurried = False

    async def start(self) -> None:
        """Bind, start the application's lifespan, accept connections; raises ServerError.

        Sockets that systemd holds for this process are used in place of `ServerOptions.listen`; those of a `Seat` in
        place of both.
        """
        options, seat = self.options, self._seat
        context = self._context = None if options.tls is None else tls_context(options.tls)
        self._listening = listen(options) if seat is None else Listening(seat.sockets)
        sockets = self._listening.sockets
        self.exposed = self._listening.exposed
        try:
            self._config.load()
            self._lifespan = LifespanOn(self._config)
            await self._lifespan.startup()
            if self._lifespan.should_exit:
                raise ServerError("the application did not start; the log says why")
        except BaseException:
            self._listening.close()
            raise
        self._watch = DisconnectWatch.where_known(asyncio.get_running_loop())
        self._state = GuardState(self.options, self._watch, None if seat is None else seat.counts)
        self._keep_date()
        self.addresses = tuple(address(sock) for sock in sockets)
        self._acceptor = Acceptor(self._state, self._protocol)
        for sock in sockets:
            self._acceptor.listen(sock, None if sock.family == socket.AF_UNIX else context)
        self.serving = True

    def renew_tls(self) -> None:
        """Read the certificate and its key again, for connections that come from now on; raises ServerError."""
        if self._context is not None and self.options.tls is not None:
            tls_context(self.options.tls)  # What is wrong with them is wrong before anything is changed.
            self._context.load_cert_chain(self.options.tls.cert, self.options.tls.key)

    def renew_bounds(self, options: ServerOptions) -> None:
        """Bound and time the connections that come from now on, and `drain`, by `options`; what listens stays."""
        kept = self.options
        self.options = replace(
            options,
            listen=kept.listen,
            tls=kept.tls,
            unix_mode=kept.unix_mode,
            local_only=kept.local_only,
            backlog=kept.backlog,
        )
        self._state.renew(self.options)

    def _protocol(self) -> GuardedProtocol:
        return GuardedProtocol(self._config, self._state, self._lifespan.state)

    def _keep_date(self) -> None:
        """Renew the Date field, which all answers take from the shared state, each second."""
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        self._clock = asyncio.get_running_loop().call_later(1.0, self._keep_date)

    async def drain(self, timeout: float | None = None) -> int:
        """Stop accepting, close idle connections, let requests finish, cut the rest; return how many were cut.

        Args:
            timeout: seconds that requests may take to finish; `ServerOptions.shutdown_timeout` where None.

        A request that is cut is cancelled, and `proxy.kernel.server_extensions.gone_because` says ``shutdown``. The
        response stays incomplete: the client sees a connection that broke off, never a clean end.
        """
        self.serving = False
        timeout = 0.0 if self._hurried else self.options.shutdown_timeout if timeout is None else timeout
        self._until = asyncio.get_running_loop().time() + timeout
        self._acceptor.close()
        self._listening.remove_unix_sockets()
        await self._acceptor.wait_closed()
        for connection in self._connections():
            connection.shutdown()
        await self._empty_within(0.0 if self._hurried else timeout)
        tasks = set(self._state.tasks)
        for connection in self._connections():
            connection.cut()
        if tasks:
            _, stubborn = await asyncio.wait(tasks, timeout=SETTLE_SECONDS)
            for task in stubborn:
                task.cancel()
        await self._empty_within(SETTLE_SECONDS)
        for connection in self._connections():
            connection.transport.abort()
        await self._lifespan.shutdown()
        self._clock.cancel()
        if self._watch is not None:
            self._watch.close()
        return len(tasks)

    @property
    def refusals(self) -> Mapping[str, int]:
        """Requests that were refused before the application saw them, by the error's code; after `start`."""
        return self._state.refused.counted

    @property
    def turned_away(self) -> Mapping[str, int]:
        """Connections that were refused, or closed to make room, by the reason; after `start`."""
        return self._state.refused.turned_away

    @property
    def bounds(self) -> Bounds:
        """The bounds on connections; after `start`."""
        return self._state.bounds

    @property
    def open_connections(self) -> int:
        """The number of connections, those with a handshake under way included; after `start`."""
        return self._state.counts.total

    @property
    def seconds_left(self) -> float:
        """The seconds that are left of the time to drain; 0 where it does not drain."""
        return max(0.0, self._until - asyncio.get_running_loop().time())

    def stop(self) -> None:
        """Make `run` drain and return; called again, without waiting for requests. For signal handlers."""
        if self._stop.is_set() or self._until:
            self._hurried, self._until = True, 0.0
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time())
        self._stop.set()

    async def _empty_within(self, seconds: float) -> None:
        """Wait until no connection and no request is left, the time is up, or `stop` is called.

        An answer that is recorded may go on without its connection.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds) as self._patience:
                await self._state.empty.wait()
                while tasks := set(self._state.tasks):
                    await asyncio.wait(tasks)
        self._patience = None

    def _connections(self) -> list[GuardedProtocol]:
        return cast("list[GuardedProtocol]", list(self._state.connections))

    def run(self, ready: Callable[["Server"], None] | None = None) -> int:
        """Serve in a new event loop; see `run_here`."""
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(self.run_here(ready))

    async def run_here(
        self,
        ready: Callable[["Server"], None] | None = None,
        *,
        signals: Sequence[int] = (signal.SIGTERM, signal.SIGINT),
    ) -> int:
        """Serve until one of `signals` or `stop`, drain, and return how many requests were cut; raises ServerError.

        Args:
            ready: called once everything listens.
            signals: handled here, while it serves.
        """
        loop = asyncio.get_running_loop()
        for number in signals:
            loop.add_signal_handler(number, self.stop)
        try:
            await self.start()
            if ready is not None:
                ready(self)
            await self._stop.wait()
            stopping()
            return await self.drain()
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    def __repr__(self) -> str:
        return f"<Server on {', '.join(self.addresses) or 'nothing yet'}, {'' if self.serving else 'not '}serving>"


@asynccontextmanager
async def serve(app: ASGIApp, options: ServerOptions, seat: Seat | None = None) -> AsyncIterator[Server]:
    """Serve `app` inside a running loop; at the end running requests are cut, unless the server was drained before."""
    server = Server(app, options, seat)
    await server.start()
    try:
        yield server
    finally:
        if server.serving:
            await server.drain(0)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop: uvloop's where it installs."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
