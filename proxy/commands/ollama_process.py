"""The Ollama that listens on a port of this machine, and its ``OLLAMA_NUM_PARALLEL``.

Several may run on one machine, each with settings of its own. So the process is the one that listens on the backend's
port: ``/proc/net/tcp`` and ``tcp6`` name the socket (proc(5)), ``/proc/PID/fd`` who holds it, and ``/proc/PID/environ``
the settings that it was started with.
"""

import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

NAME: Final = b"OLLAMA_NUM_PARALLEL"
DEFAULT: Final = 1
"""What Ollama takes where the variable is not set."""
_LISTENS: Final = "0A"
"""The state of a listening socket in ``/proc/net/tcp``."""

Address = IPv4Address | IPv6Address


def num_parallel(host: str, port: int, proc: Path = Path("/proc")) -> int | str:
    """Return ``OLLAMA_NUM_PARALLEL`` of the Ollama that listens at `host` and `port`, or why it is not known."""
    addresses = _addresses(host, port)
    if not any(map(_is_here, addresses)):
        return "it runs on another machine"
    sockets = set(_listening(proc, port, addresses))
    if not sockets:
        return f"nothing listens on port {port} here that could be seen; it may be in a container"
    process = next((folder for folder in proc.glob("[0-9]*") if _holds(folder, sockets)), None)
    if process is None:
        return f"the process on port {port} belongs to somebody else; run this as root or as its user"
    try:
        program = (process / "cmdline").read_bytes().split(b"\0")[0].rpartition(b"/")[2]
        if program != b"ollama":
            return f"on port {port} is {program.decode(errors='replace') or 'a process without a name'}, not ollama"
        return _setting((process / "environ").read_bytes())
    except OSError:
        return f"the settings of process {process.name} may not be read; run this as root or as its user"


def _setting(environment: bytes) -> int:
    """Return the number in an environment, without spaces and quotes, as Ollama reads it; else its default."""
    for pair in environment.split(b"\0"):
        name, _, value = pair.partition(b"=")
        text = value.strip(b" \t\"'")
        if name == NAME and text.isdigit():
            return int(text) or DEFAULT
    return DEFAULT


def _addresses(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def _is_here(address: Address) -> bool:
    """Return whether `address` is one of this machine's, on which alone a socket can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((str(address), 0))
        return True
    return False


def _listening(proc: Path, port: int, addresses: list[Address]) -> Iterator[str]:
    """Yield the inodes of the sockets that listen on `port`, at one of `addresses` or at all of the machine's."""
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            digits, _, number = fields[1].partition(":")
            if fields[3] == _LISTENS and int(number, 16) == port:
                address = _address(digits)
                if address.is_unspecified or address in addresses:
                    yield fields[9]


def _address(digits: str) -> Address:
    """Return an address of ``/proc/net/tcp``: words of 32 bits, each as this machine, a little-endian one, holds it."""
    raw = bytes.fromhex(digits)
    packed = b"".join(raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
    address = ip_address(packed)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _holds(process: Path, sockets: set[str]) -> bool:
    """Return whether an open file of `process` is one of `sockets`, given by their inodes."""
    with suppress(OSError):
        for file in (process / "fd").iterdir():
            with suppress(OSError):
                if file.readlink().name.removeprefix("socket:[").removesuffix("]") in sockets:
                    return True
    return False
