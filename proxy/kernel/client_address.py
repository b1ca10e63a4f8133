"""The address of the client, when other proxies stand between."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal

from proxy.kernel.asgi import Scope, header_values

Trusted = IPv4Network | IPv6Network | Literal["unix"]
"""A network of proxies, or every peer on a unix socket."""

UNIX: Final = "unix"

_FORWARDED: Final = frozenset({b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via"})


_LONGEST: Final = 64
"""Characters of an address of IPv6 with the name of an interface behind it."""


def read_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the IP address in `text`, None where there is none.

    One of IPv4 that came over an IPv6 socket (``::ffff:192.0.2.1``) is one of IPv4.
    """
    return _read(text) if len(text) <= _LONGEST else None  # before the cache: it keeps what it is asked about


@lru_cache(maxsize=4096)
def _read(text: str) -> IPv4Address | IPv6Address | None:
    try:
        ip = ip_address(text)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def block(address: str) -> str:
    """Return an IPv4 address as it is and an IPv6 address as its /64, which one subscriber owns as a whole."""
    return _block(address) if len(address) <= _LONGEST else address


@lru_cache(maxsize=4096)
def _block(address: str) -> str:
    ip = read_address(address)
    if ip is None:
        return address
    return str(ip) if ip.version == 4 else str(ip_network((int(ip), 64), strict=False))


def is_forwarded(scope: Scope) -> bool:
    """Return whether a header says that a proxy, trusted or not, passes the request on for its client."""
    return any(name in _FORWARDED for name, _ in scope["headers"])


def is_trusted(scope: Scope, trusted: Sequence[Trusted]) -> bool:
    """Return whether the peer is one of the `trusted` proxies; one connection may then serve many clients."""
    return bool(trusted) and address_is_trusted(_peer(scope), trusted)


def client_address(scope: Scope, trusted: Sequence[Trusted]) -> str:
    """Return the address of the caller; ``unix`` for a unix socket.

    That is the peer, unless the peer is one of the `trusted` proxies: then the rightmost address in X-Forwarded-For
    that is not a trusted proxy itself. What a client wrote further left is never believed; an entry that is no address
    ends the search.
    """
    address = _peer(scope)
    if not is_trusted(scope, trusted):
        return address
    hops = b",".join(header_values(scope["headers"], b"x-forwarded-for")).decode("latin-1").split(",")
    for hop in reversed(hops):
        candidate = _strip_port(hop.strip())
        if read_address(candidate) is None:
            return address
        address = candidate
        if not address_is_trusted(address, trusted):
            return address
    return address


def _peer(scope: Scope) -> str:
    peer = scope.get("client")
    return peer[0] if peer else UNIX


def address_is_trusted(address: str, trusted: Sequence[Trusted]) -> bool:
    """Return whether an IP address, or ``unix``, is one of the `trusted` proxies."""
    if address == UNIX:
        return UNIX in trusted
    ip = read_address(address)
    return ip is not None and any(network != UNIX and ip in network for network in trusted)


def _strip_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    if text.count(":") == 1:
        return text.partition(":")[0]
    return text
