"""By which names the proxy is known: what the Host field of a request may say.

A page can have its own name point at this machine (DNS rebinding). Its browser then takes the proxy for the page's own
server, and the page may read whatever it answers. The one thing that gives it away is the Host field: a browser writes
the page's name there. So where nobody is asked who is calling, only names that are known to be the proxy's are served,
by the rule of Ollama (``allowedHostsMiddleware`` in its server/routes.go), and the names of the policy file.
"""

import re
import socket
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final, NamedTuple

from proxy.kernel.asgi import Scope, header
from proxy.kernel.client_address import read_address
from proxy.kernel.errors import Refused

_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._~-]+))(?::([0-9]{0,5}))?")
_LONGEST: Final = 300
"""Characters of a host and port; a name of DNS has at most 253."""
_ENDS: Final = (".localhost", ".local", ".internal")
"""Suffixes of names that no public DNS serves: this machine, the local network (mDNS), a private network (ICANN)."""
_NETWORKS: Final = tuple(
    ip_network(network)
    for network in (
        *("0.0.0.0/32", "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("::/128", "::1/128", "fc00::/7", "fe80::/10"),
    )
)
"""The unspecified address, loopback, private and link-local ones."""


class Host(NamedTuple):
    """A host and port as they stand in a Host field or an Origin.

    Attributes:
        name: in lower case without a last dot, or an IP address.
        port: None where none is written.
    """

    name: str | IPv4Address | IPv6Address
    port: int | None


def read_host(text: str) -> Host | None:
    """Return what ``host[:port]`` says, None where it is not that.

    Two spellings of one host become one: case, the last dot of a name, and the forms of an IPv6 address.
    """
    return _read(text) if len(text) <= _LONGEST else None  # before the cache: it keeps what it is asked about


@lru_cache(maxsize=1024)
def _read(text: str) -> Host | None:
    found = _HOST.fullmatch(text)
    if found is None:
        return None
    port = int(found[3]) if found[3] else None
    if port is not None and port > 65535:
        return None
    if found[1] is not None:
        address = read_address(found[1])
        return None if address is None else Host(address, port)
    name = found[2].lower().removesuffix(".")
    return Host(read_address(name) or name, port) if name else None


class KnownHosts:
    """The names that the proxy is known by.

    Args:
        names: beside the local ones: names, addresses, and ``*.example.com`` for every name below ``example.com``.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        given = [name.lower().removesuffix(".") for name in names]
        self._ends = (*_ENDS, *(name[1:] for name in given if name.startswith("*.")))
        self._names: set[str | IPv4Address | IPv6Address] = {"localhost", socket.gethostname().lower()}
        self._names.update(read_address(name) or name for name in given if not name.startswith("*."))

        self._decided = lru_cache(maxsize=1024)(self._decide)  # what callers say is nearly always the same

    def knows(self, host: str, server: str | None = None) -> bool:
        """Return whether a Host field may say `host`; `server` is the address of ours that the connection was made to.

        An address is safe as far as it is ours, for no page has one for its name.
        """
        return len(host) <= _LONGEST and self._decided(host, server)

    def _decide(self, host: str, server: str | None) -> bool:
        found = read_host(host)
        if found is None:
            return False
        name = found.name
        if name in self._names:
            return True
        if isinstance(name, str):
            return name.endswith(self._ends)
        return any(name in network for network in _NETWORKS) or (server is not None and name == read_address(server))

    def check(self, scope: Scope) -> None:
        """Raise Refused (403) where a request calls the proxy by a name that is not known to be its own.

        Only HTTP/1.0 has requests without a Host field. Browsers do not speak it, so one is served unless it looks like
        a browser's all the same.
        """
        headers = scope["headers"]
        host = header(headers, b"host")
        if not host and not any(name in _OF_BROWSERS for name, _ in headers):
            return
        server = scope.get("server")
        text = (host or b"").decode("latin-1")
        if self.knows(text, server[0] if server else None):
            return
        shown = f"by the name {text!r}" if read_host(text) else "by a name that is none"
        raise Refused(
            403,
            f"this proxy was called {shown} (the Host field), which is not known to be its own; where it is, "
            "add it to server.hosts in the policy file",
            code="unknown_host",
        )


_OF_BROWSERS: Final = frozenset({b"origin", b"sec-fetch-site"})
