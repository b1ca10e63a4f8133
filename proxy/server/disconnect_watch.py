"""Noticing a client that disconnects while its socket is not read.

Flow control stops reading while a request body is not taken. From then on neither a FIN nor an RST reaches the event
loop, and a backend may work for a client that is gone. Linux tells of both without a read (EPOLLRDHUP), so the
sockets that are paused, and only they, are put into an epoll set of their own, which the event loop watches as one
more file.

A FIN is heard only once it has arrived: behind data that fills the receive window it is still at the sender.
"""

import asyncio
import contextlib
import select
from collections.abc import Callable
from typing import Final, Self

from uvicorn.protocols.http.flow_control import FlowControl

_GONE: Final = getattr(select, "EPOLLRDHUP", 0)


class DisconnectWatch:
    """Calls back once, without delay, when the peer of a watched socket closes or resets the connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._tell)

    @classmethod
    def where_known(cls, loop: asyncio.AbstractEventLoop) -> Self | None:
        """Return a watch, None on systems other than Linux: there a hang-up shows when reading goes on."""
        return cls(loop) if _GONE else None

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Run `callback` when the peer of socket `fd` hangs up, unless it is forgotten before."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, _GONE | select.EPOLLONESHOT)

    def forget(self, fd: int) -> None:
        """Stop watching `fd`; it may be unknown, or closed already."""
        if self._callbacks.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def close(self) -> None:
        """Stop watching everything."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._callbacks.clear()

    def _tell(self) -> None:
        for fd, _ in self._epoll.poll(0):
            callback = self._callbacks.get(fd)
            self.forget(fd)
            if callback is not None:
                callback()


class WatchedFlow(FlowControl):
    """uvicorn's flow control, with a watch for a disconnect while it does not read."""

    def __init__(self, transport: asyncio.Transport, disconnect_watch: DisconnectWatch | None) -> None:
        super().__init__(transport)
        self._watch = disconnect_watch
        self._fd: int = transport.get_extra_info("socket").fileno()

    def pause_reading(self) -> None:
        """Stop reading, and watch for a disconnect."""
        if not self.read_paused:
            super().pause_reading()
            if self._watch is not None:
                self._watch.watch(self._fd, self._transport.abort)

    def resume_reading(self) -> None:
        """Go on reading."""
        if self.read_paused:
            self.forget()
            super().resume_reading()

    def forget(self) -> None:
        """Stop watching; the file descriptor may soon be another connection's."""
        if self._watch is not None:
            self._watch.forget(self._fd)
