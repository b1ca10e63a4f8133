"""A listening socket that can go and come back on the same port, or leave new connections hanging."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from proxy.simulator.http_connection import Connection


class Listener:
    """Listens on TCP or, with `unix`, on a unix socket.

    Port 0 becomes a free one with the first `listen` and is kept until `close`, by a socket that is bound but does
    not listen: so a host that is down refuses connections, and the kernel gives its port to nobody else meanwhile.
    """

    def __init__(
        self, host: str, port: int, unix: str | None, context: ssl.SSLContext | None, make: Callable[[], Connection]
    ) -> None:
        self.host = host
        self.port = port
        self.unix = unix
        self.tls = context
        self._make = make
        self._server: asyncio.Server | None = None
        self._reserved: socket.socket | None = None
        self._hole: list[socket.socket] = []

    @property
    def listening(self) -> bool:
        """Return whether connections are taken."""
        return self._server is not None

    async def listen(self) -> None:
        """Take connections; nothing happens if it does already."""
        if self._server:
            return
        loop = asyncio.get_running_loop()
        self._fill_hole()
        if self.unix:
            self._server = await loop.create_unix_server(self._make, self.unix, ssl=self.tls)
            return
        if self._reserved is None:
            self._reserved = self._bound()
            self.port = self._reserved.getsockname()[1]
        self._server = await loop.create_server(
            self._make, self.host, self.port, ssl=self.tls, reuse_address=True, backlog=4096
        )

    def refuse(self) -> None:
        """Take no more; connections that are open go on."""
        self._fill_hole()
        server, self._server = self._server, None
        if server:
            server.close()
            if self.unix:
                Path(self.unix).unlink(missing_ok=True)

    def blackhole(self) -> None:
        """Let new connections hang, as with a host that is switched off. TCP on Linux only.

        A listening socket that nobody accepts from drops every further SYN once its queue is full.
        """
        self.refuse()
        listener = self._bound()
        listener.listen(0)
        self._hole = [listener]
        for _ in range(2):
            filler = socket.socket(listener.family)
            filler.setblocking(False)
            filler.connect_ex((self.host, self.port))
            self._hole.append(filler)

    def close(self) -> None:
        """Refuse, and give up the port."""
        self.refuse()
        if self._reserved:
            self._reserved.close()
            self._reserved = None

    def _bound(self) -> socket.socket:
        bound = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        # Linux lets several sockets be bound to a port as long as all say this and none listens yet.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((self.host, self.port))
        return bound

    def _fill_hole(self) -> None:
        for hole in self._hole:
            hole.close()
        self._hole = []
