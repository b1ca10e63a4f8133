"""Connections to addresses that were looked at: none to a private one that nobody has named."""

import asyncio
import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

import httpcore

Address = IPv4Address | IPv6Address
SocketOption = httpcore.SOCKET_OPTION

_NAT64: Final = ip_network("64:ff9b::/96")
"""IPv4 addresses behind a translator (RFC 6052)."""


class NotPermitted(Exception):
    """The name leads to an address that may not be called."""


def is_public(address: Address) -> bool:
    """Return whether an address is one of the Internet, also behind what IPv6 wraps around IPv4."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.scope_id is not None or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Resolves a name once, looks at every address it has, and connects to one of those: a name cannot change between.

    Args:
        named: networks that may be called whatever they are.
    """

    def __init__(self, named: Sequence[IPv4Network | IPv6Network] = ()) -> None:
        self._named = named
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a host; raises NotPermitted, or httpcore.ConnectError."""
        error: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in await self.addresses(host, port):
            try:
                return await self._inner.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except httpcore.ConnectError as failure:
                error = failure
        raise error

    async def addresses(self, host: str, port: int) -> list[Address]:
        """Return the addresses of a host; raises NotPermitted where one of them may not be called."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        except (OSError, UnicodeError) as error:  # a label that is empty, or longer than 63 characters
            raise httpcore.ConnectError(f"{host} cannot be resolved") from error
        addresses = list(dict.fromkeys(ip_address(entry[4][0]) for entry in found))
        for address in addresses:
            if not is_public(address) and not any(address in network for network in self._named):
                raise NotPermitted(f"{host} leads to {address}, which is no address of the Internet")
        return addresses
