"""systemd's protocol: readiness, and the sockets that it holds for us (sd_notify(3), sd_listen_fds(3))."""

import os
import socket
from collections.abc import MutableMapping
from time import monotonic
from typing import Final

FIRST_FD: Final = 3


def notify(*states: str, env: MutableMapping[str, str] = os.environ) -> bool:
    """Send `states` (``READY=1``, ``STOPPING=1``, ``STATUS=…``) to the service manager; False where there is none.

    Never raises: a service manager that went away is no reason to stop serving.
    """
    path = env.get("NOTIFY_SOCKET", "")
    if not path or path[0] not in "/@":
        return False
    address = "\0" + path[1:] if path[0] == "@" else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto("\n".join(states).encode(), address)
    except OSError:
        return False
    return True


def ready(*, reloaded: bool = False) -> None:
    """Say that new requests are served; `reloaded`: again, under another policy file."""
    if reloaded:
        notify("RELOADING=1", f"MONOTONIC_USEC={int(monotonic() * 1_000_000)}")
    notify("READY=1")


def stopping() -> None:
    """Say that the process drains."""
    notify("STOPPING=1")


def inherited_sockets(env: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """Return the listening sockets that systemd opened for this process; empty where it did not.

    They take the place of ``listen``: with them the port is open while the proxy restarts, and no client is refused.
    The variables are removed, so that no child takes them for its own.
    """
    mine = env.get("LISTEN_PID") == str(os.getpid())
    count = env.get("LISTEN_FDS", "")
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        env.pop(name, None)
    if not mine or not count.isdecimal():
        return []
    sockets = []
    for fd in range(FIRST_FD, FIRST_FD + int(count)):
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        sockets.append(sock)
    return sockets
