"""The socket of one client, as replies use it: write, wait for the client, close."""

import asyncio
import socket
import struct
from typing import cast

from proxy.simulator.host import Host
from proxy.simulator.request import ClientGone


class ClientSocket(asyncio.Protocol):
    """Writes to one client.

    Attributes:
        host: the simulated machine that the client talks to.
        number: counts connections from 1.
        gone: whether the client has closed, in either direction.
        paused: whether the client reads more slowly than we write.
        held: whether neither answers nor reads go on until the client leaves.
        peer: address and port of the client; port 0 on a unix socket.
    """

    def __init__(self, host: Host, number: int) -> None:
        self.host = host
        self.number = number
        self.gone = False
        self.paused = False
        self.held = False
        self.peer: tuple[str, int] = ("", 0)
        self.transport: asyncio.Transport
        self._resumed: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, note the client's address, and send small writes at once."""
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.peer = (peer[0], peer[1])
            self.raw_socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def pause_writing(self) -> None:
        """Note that the client reads more slowly than we write."""
        self.paused = True
        self.host.changed()

    def resume_writing(self) -> None:
        """Wake the task that waits for the client to read."""
        self.paused = False
        if self._resumed and not self._resumed.done():
            self._resumed.set_result(None)

    def write(self, data: bytes) -> None:
        """Write `data` at once, in one call."""
        self.host.counters.bytes_out += len(data)
        self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the client has read enough."""
        while self.paused and not self.gone:
            self._resumed = asyncio.get_running_loop().create_future()
            try:
                await self._resumed
            finally:
                self._resumed = None

    async def flush(self) -> None:
        """Wait until the kernel has every byte that was written."""
        self.transport.set_write_buffer_limits(high=0)
        await self.drain()
        if not self.gone:
            self.transport.set_write_buffer_limits()

    def check(self) -> None:
        """Raise `ClientGone` when the client has closed."""
        if self.gone:
            raise ClientGone

    def hold(self) -> None:
        """Neither answer nor read anything more, but stay open until the client leaves."""
        self.held = True

    def reset(self) -> None:
        """Close with RST (a plain close on a unix socket, which has none)."""
        if self.transport.get_extra_info("peername") and self.peer[1]:
            self.raw_socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def close(self) -> None:
        """Close with FIN once everything is written."""
        self.transport.close()

    def raw_socket(self) -> socket.socket:
        """Return the socket below asyncio, for its options only."""
        return cast(socket.socket, self.transport.get_extra_info("socket"))
