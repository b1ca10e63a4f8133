"""The sockets that a server listens on, opened here or by systemd, until they are closed."""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from proxy.server.listeners import ServerError, TlsOptions, address, bind, is_local
from proxy.server.server_state import ConnectionOptions
from proxy.server.systemd import inherited_sockets


@dataclass(frozen=True, kw_only=True)
class ServerOptions(ConnectionOptions):
    """The options of a server. Times are seconds. The policy file has the defaults of all options that it names.

    Attributes:
        listen: ``host:port``, ``[v6]:port``, ``:port`` (all interfaces) or ``unix:/path``. Port 0 is any free one. An
            IPv6 address is IPv6 only: list ``0.0.0.0`` beside ``[::]``.
        tls: TLS on every listener but unix sockets.
        unix_mode: permissions of unix sockets.
        local_only: refuse to start where other machines could reach a listener, whoever opened it.
        shutdown_timeout: for running requests to finish once the server is told to stop.
        backlog: connections that wait in the kernel to be accepted.
    """

    listen: Sequence[str]
    tls: TlsOptions | None
    unix_mode: int
    shutdown_timeout: float
    local_only: bool = False
    backlog: int = 2048


class Listening:
    """Sockets that listen.

    Attributes:
        exposed: the addresses among theirs that other machines can reach.
    """

    def __init__(self, sockets: Sequence[socket.socket], *, ours: bool = False) -> None:
        self.sockets = list(sockets)
        self.exposed = tuple(address(sock) for sock in sockets if not is_local(sock))
        self._paths = [
            (path, os.stat(path).st_ino)
            for path in (sock.getsockname() for sock in sockets if ours and sock.family == socket.AF_UNIX)
        ]
        """The unix sockets that are ours to remove, with their inodes."""

    def close(self) -> None:
        """Close all of them, and remove the unix sockets that were made here."""
        for sock in self.sockets:
            sock.close()
        self.remove_unix_sockets()

    def remove_unix_sockets(self) -> None:
        """Remove from the file system the unix sockets that were made here."""
        for path, inode in self._paths:
            # Another server may have put its own socket there meanwhile.
            with suppress(OSError):
                if os.stat(path).st_ino == inode:
                    os.unlink(path)

    def __repr__(self) -> str:
        return f"<Listening on {', '.join(map(address, self.sockets))}>"


def listen(options: ServerOptions) -> Listening:
    """Return the sockets that systemd holds for this process, or else those of `options`; raises ServerError."""
    held = inherited_sockets()
    sockets = held or bind(options.listen, backlog=options.backlog, unix_mode=options.unix_mode)
    listening = Listening(sockets, ours=not held)
    if options.local_only and listening.exposed:
        listening.close()
        raise ServerError(
            f"others can reach {listening.exposed[0]}, and nothing in the middleware list asks who is calling; "
            "add auth, listen on 127.0.0.1, or set allow_anonymous_network: true"
        )
    return listening
