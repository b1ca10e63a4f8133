"""Counting the connections, in all and of each address."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from proxy.kernel.client_address import Trusted, address_is_trusted, block

UNBOUNDED: Final = ""
"""The group of peers that are not bounded one by one: unix sockets, and trusted proxies, which serve many clients."""


class Place:
    """The place of one connection among all, from `accept` on; given back once, however the connection ends.

    Attributes:
        group: as `group_of` returns it.
    """

    __slots__ = ("_counts", "group")

    def __init__(self, counts: "ConnectionCounts", group: str) -> None:
        self.group = group
        self._counts: ConnectionCounts | None = counts

    def give_back(self) -> None:
        """Count the connection no more; may be called again."""
        counts, self._counts = self._counts, None
        if counts is not None:
            counts.remove(self.group)

    def __repr__(self) -> str:
        return f"<Place of {self.group or 'a trusted peer'}{'' if self._counts else ', given back'}>"


class ConnectionCounts:
    """Counts the connections of one server."""

    def __init__(self) -> None:
        self.total = 0
        self.of: Counter[str] = Counter()
        """By group; groups without a connection are not in it."""

    def take(self, group: str) -> Place:
        """Count one more."""
        self.total += 1
        self.of[group] += 1
        return Place(self, group)

    def remove(self, group: str) -> None:
        """Count one less; for `Place`."""
        self.total -= 1
        self.of[group] -= 1
        if not self.of[group]:
            del self.of[group]

    def __repr__(self) -> str:
        return f"<ConnectionCounts {self.total} of {len(self.of)} addresses>"


def group_of(peer: str, trusted: Sequence[Trusted]) -> str:
    """Return the group whose connections are bounded together with those of `peer`.

    Args:
        peer: its IP address, "" for a unix socket.
        trusted: the proxies in front, whose one address stands for many clients.

    A group is an IPv4 address, or the first 64 bits of an IPv6 address: whoever has one address there has them all.
    """
    if not peer or (trusted and address_is_trusted(peer, trusted)):
        return UNBOUNDED
    return block(peer.partition("%")[0])
