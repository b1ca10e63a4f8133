"""Counting the connections, in all and of each address."""

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from proxy.kernel.client_address import Trusted, address_is_trusted, block
from proxy.kernel.shared_numbers import ABSENT, SharedNumbers

UNBOUNDED: Final = ""
"""The group of peers that are not bounded one by one: unix sockets, and trusted proxies, which serve many clients."""

GROUPS: Final = 16_384
"""Numbers that each process has for the connections of single groups."""
COUNTS: Final = 1 + GROUPS + 1
"""Numbers that each process has in all: of its connections, of those of groups, and 1 where it accepts no more."""
SLACK: Final = 1
"""Connections that a process may have more than another before it leaves the next one to that."""


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

    @property
    def everywhere(self) -> int:
        """Return the number of connections that the bound on all of them is for."""
        return self.total

    def everywhere_of(self, group: str) -> int:
        """Return the number of connections that the bound on one group is for."""
        return self.of[group]

    @property
    def ahead(self) -> bool:
        """Return whether this server had better leave the next connection to another process."""
        return False

    def leave(self) -> None:
        """Count no further connection: the other processes need leave none to this one."""

    def __repr__(self) -> str:
        return f"<ConnectionCounts {self.total} of {len(self.of)} addresses>"


class SharedCounts(ConnectionCounts):
    """Counts the connections of one server of several processes that listen on the same sockets.

    Their bounds hold for all of them together. A group is found in the others' rows by a keyed hash, so that two may
    share a number: then each has a little less room than its bound, but nobody can choose whose.

    Args:
        numbers: the table of all processes, with `COUNTS` columns for this.
        column: the first of these columns.
        key: of the hash, the same in all processes.
    """

    def __init__(self, numbers: SharedNumbers, column: int, key: bytes) -> None:
        super().__init__()
        self._numbers = numbers
        self._column = column
        self._key = key
        self._leaving = column + COUNTS - 1
        numbers.write(column, 0)
        numbers.write(self._leaving, 0)

    def take(self, group: str) -> Place:
        """See `ConnectionCounts.take`."""
        self._numbers.add(self._column, 1)
        if group != UNBOUNDED:
            self._numbers.add(self._column_of(group), 1)
        return super().take(group)

    def remove(self, group: str) -> None:
        """See `ConnectionCounts.remove`."""
        super().remove(group)
        self._numbers.add(self._column, -1)
        if group != UNBOUNDED:
            self._numbers.add(self._column_of(group), -1)

    @property
    def everywhere(self) -> int:
        """See `ConnectionCounts.everywhere`."""
        return self.total + self._numbers.elsewhere(self._column)

    def everywhere_of(self, group: str) -> int:
        """See `ConnectionCounts.everywhere_of`."""
        return self.of[group] + self._numbers.elsewhere(self._column_of(group))

    @property
    def ahead(self) -> bool:
        """See `ConnectionCounts.ahead`."""
        both = zip(self._numbers.others(self._column), self._numbers.others(self._leaving), strict=True)
        others = [count for count, leaves in both if count != ABSENT and not leaves]
        return bool(others) and self.total > min(others) + SLACK

    def leave(self) -> None:
        """See `ConnectionCounts.leave`."""
        self._numbers.write(self._leaving, 1)

    def _column_of(self, group: str) -> int:
        number = int.from_bytes(blake2b(group.encode(), digest_size=4, key=self._key).digest())
        return self._column + 1 + number % GROUPS


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
