"""Who is at the other end, when other proxies stand between."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

from proxy.asgi import Scope, header_values

Network = IPv4Network | IPv6Network

UNIX: Final = "unix"


def client_address(scope: Scope, trusted: Sequence[Network]) -> str:
    """Return the address of the caller.

    That is the peer, unless the peer is one of the `trusted` proxies (or a unix socket while any is listed): then the
    rightmost address in X-Forwarded-For that is not a trusted proxy itself. What a client wrote further left is never
    believed; an entry that is no address ends the search.
    """
    peer = scope.get("client")
    address: str = peer[0] if peer else UNIX
    if not trusted or not _is_trusted(address, trusted):
        return address
    hops = b",".join(header_values(scope["headers"], b"x-forwarded-for")).decode("latin-1").split(",")
    for hop in reversed(hops):
        candidate = _strip_port(hop.strip())
        try:
            ip_address(candidate)
        except ValueError:
            return address
        address = candidate
        if not _is_trusted(address, trusted):
            return address
    return address


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    if address == UNIX:
        return True
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    if mapped is not None:
        ip = mapped
    return any(ip.version == network.version and ip in network for network in trusted)


def _strip_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    if text.count(":") == 1:
        return text.partition(":")[0]
    return text
