"""uvicorn's HTTP protocol, guarded: it bounds, times and refuses before an application sees anything.

`RequestReader` reads the requests of a connection. This module is the connection's life: it begins and ends it, lets
the application answer, refuses, and tells a running request that its client has gone.

For a chunk of a response only `chunk_writer` runs, or uvicorn's `send`.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from proxy.kernel.errors import ProxyError, Refused, ShuttingDown, let_go
from proxy.kernel.server_extensions import REASON, REGISTER, WRITE
from proxy.server.chunk_writer import chunk_writer
from proxy.server.connection_counts import Place
from proxy.server.deadline_timer import Deadline, late
from proxy.server.disconnect_watch import WatchedFlow
from proxy.server.http10 import without_chunks
from proxy.server.request_reader import RequestReader
from proxy.server.server_state import GuardState, uvicorn_log
from proxy.server.websocket_connection import WebSocketConnection
from proxy.server.websocket_upgrade import Upgrade

LINGER_SECONDS: Final = 2.0
"""Seconds that a refused client has to read the refusal and close."""


class GuardedProtocol(RequestReader):
    """One connection of a client."""

    _flow: WatchedFlow

    def __init__(
        self,
        config: Config,
        server_state: GuardState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.place: Place | None = None
        """The place among all connections that this one holds, where somebody counts."""
        self.timeout_keep_alive = self.options.keep_alive  # type: ignore[assignment]  # uvicorn only adds it to a time
        self.logger = uvicorn_log
        self._task: asyncio.Task[None] | None = None
        self._on_gone: Callable[[], None] | None = None
        self._writing = Deadline(self.loop)
        """The time for a client to read."""

    # The connection's beginning and end

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a head."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=HIGH_WATER_LIMIT)
        if peer := transport.get_extra_info("peercert"):  # empty or None unless it was asked for and verified
            self.app_state = {**self.app_state, "tls_peer": peer}
        self.server_state.empty.clear()
        self.flow = self._flow = WatchedFlow(transport, self.server_state.disconnect_watch)
        self._reading.start(self.options.head_timeout, self._head_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the running request that its client has gone, and give back what the connection held."""
        super().connection_lost(exc)
        self._tell_gone()
        self._unset_keepalive_if_required()
        self._reading.stop()
        self._writing.stop()
        self._flow.forget()
        if self.place is not None:
            self.place.give_back()
        if not self.connections:
            self.server_state.empty.set()

    def eof_received(self) -> None:
        """Take a client that closes its side for gone, even where its response is stuck in our buffer."""
        if self._running():
            self.transport.abort()

    def shutdown(self) -> None:
        """Close when idle; otherwise after the response."""
        if not self.transport.is_closing():  # asyncio's TLS transport must not be closed twice
            super().shutdown()
        self._flush_in_time()

    def idle_since(self) -> float | None:
        """Return the loop's time since which nothing runs here; None while a request runs or the connection closes."""
        if self._running() or self.transport.is_closing():
            return None
        if self.timeout_keep_alive_task is not None:
            return self.timeout_keep_alive_task.when() - self.options.keep_alive
        seconds = LINGER_SECONDS if self._phase == "linger" else self.options.head_timeout
        return None if self._reading.due is None else self._reading.due - seconds

    def make_way(self) -> None:
        """Close an idle connection at once, so that another client finds a place."""
        if self.place is not None:
            self.place.give_back()
        self.transport.abort()

    def cut(self) -> None:
        """End the running request: the time to drain is up."""
        if self._task is not None and self._running():
            self._say_why(ShuttingDown())
            self._task.cancel("shutdown")
        else:
            self.transport.abort()

    # Answering

    def _start(self, app: ASGI3Application) -> None:
        self._waiting_app = self._on_gone = None
        cycle = self.cycle
        cycle.scope["state"][REGISTER] = self._when_gone
        if self._version == b"1.0":
            app = without_chunks(app, cycle)
        else:
            cycle.scope["state"][WRITE] = chunk_writer(cycle)
        if self._upgrade is not None:
            app = self._upgrade.around(app, cycle)
        self._task = self.loop.create_task(cycle.run_asgi(app))
        self.tasks.add(self._task)
        self._task.add_done_callback(self._finished)

    def on_response_complete(self) -> None:
        """Go on with what the client sent meanwhile."""
        self._on_gone = None  # it leads to the whole request, which must not stay while the connection idles
        if self._upgrade is not None and self._upgrade.switches and not self.transport.is_closing():
            self._become_websocket(self._upgrade)
            return
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self._phase == "answer":
            self._read_kept()
        elif self._phase == "body":
            self._reading.stop()
            if self.expect_100_continue and not self._body_moved:
                # Whether the client will still send its body is anybody's guess.
                self.transport.close()

    def _become_websocket(self, upgrade: Upgrade) -> None:
        """Give the connection, with its place, to a `WebSocketConnection`."""
        self._reading.stop()
        self._writing.stop()
        self._flow.forget()
        self.connections.discard(self)
        place, self.place = self.place, None
        socket = WebSocketConnection(self.transport, self.server_state, upgrade.options, place)
        self.transport.set_protocol(socket)
        kept, self._kept, self._upgrade = bytes(self._kept), bytearray(), None
        self.parser = None  # type: ignore[assignment]  # it leads back to here
        socket.begin(upgrade.session, kept)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._flush_in_time()

    # Refusing

    def _refuse(self, refused: Refused) -> None:
        """Answer with an error, never call the application, and close."""
        self.server_state.note_refusal(refused, self.client)
        let_go(refused)
        self._unset_keepalive_if_required()
        self._reading.stop()
        answered = self._phase == "body" and self.cycle.response_started
        if self._running():
            # The body turned out bad: the application learns that nobody is there.
            self._say_why(refused)
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.flow.resume_writing()
            self._tell_gone()
        self._phase, self._waiting_app = "linger", None
        self._head.clear()
        if answered:
            self.transport.close()
            self._flush_in_time()
            return
        self.transport.write(self.server_state.refusal(refused))
        # To close with input unread would reset the connection, and might take the response away from the client.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._reading.start(LINGER_SECONDS, self.transport.abort)

    # A client that leaves

    def _running(self) -> bool:
        """Return whether an application is at work, or about to be, for a client that is still there."""
        begun = self._phase == "body" or self._phase == "answer"
        return begun and not (self.cycle.response_complete or self.cycle.disconnected)

    def _say_why(self, reason: ProxyError) -> None:
        if self._running():
            self.cycle.scope["state"][REASON] = reason

    def _when_gone(self, callback: Callable[[], None]) -> None:
        self._on_gone = callback
        if self.cycle.disconnected:
            self._tell_gone()

    def _tell_gone(self) -> None:
        callback, self._on_gone = self._on_gone, None
        if callback is not None and not self.cycle.response_complete:
            callback()

    # A client that does not read

    def pause_writing(self) -> None:
        """Begin to count the time that the client does not read."""
        super().pause_writing()
        self._writing.start(self.options.write_timeout, self._write_late)

    def resume_writing(self) -> None:
        """Stop counting: the client reads."""
        super().resume_writing()
        self._writing.stop()
        self._flush_in_time()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection."""
        super().timeout_keep_alive_handler()
        self._flush_in_time()

    def _flush_in_time(self) -> None:
        """Bound the time that a closing connection waits for a client that does not read its last bytes."""
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._writing.start(self.options.write_timeout, self._write_late)

    def _write_late(self) -> None:
        self._say_why(late("the client read nothing of its answer", "write", self.options.write_timeout))
        self.transport.abort()
