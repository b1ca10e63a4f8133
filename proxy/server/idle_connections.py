"""Closing idle connections where a new one would be one too many."""

import asyncio
import heapq
from collections.abc import Iterator
from typing import Final, cast

from proxy.server.connection_counts import UNBOUNDED
from proxy.server.guarded_protocol import GuardedProtocol
from proxy.server.server_state import GuardState

YOUNGEST: Final = 1.0
"""Seconds that a connection is spared for: its first request may be on the way."""
MANY: Final = 2
"""An address with this many times the newcomer's connections is not spared, however young its connections are."""
SHARE: Final = 64
"""For one newcomer, 1/`SHARE` of all connections may be closed at once: the next newcomers then need no search."""
NONE_FOR: Final = 0.1
"""Seconds until the next look where no idle connection was found."""


class IdleConnections:
    """Finds and closes the connections of one server that only wait.

    They wait for a request, for the rest of its head or, after a response, for the rest of a body or the client to
    close.
    """

    def __init__(self, state: GuardState) -> None:
        self._loop = asyncio.get_running_loop()
        self._state = state
        self._look_from = 0.0
        self._in_vain_for = 0
        """Until `_look_from` nothing is found for a newcomer whose address has so many connections, or more."""

    def close_some(self, newcomer: str) -> bool:
        """Close a few idle connections for a newcomer; return whether there were any.

        Those of addresses with many connections go first, and of these the longest idle.

        Args:
            newcomer: the group of the new connection; see `proxy.server.connection_counts.group_of`.
        """
        now, has = self._loop.time(), 0 if newcomer == UNBOUNDED else self._state.counts.of[newcomer]
        if now < self._look_from and has >= self._in_vain_for:
            return False
        found = self._idle(now - YOUNGEST, MANY * (has + 1))
        chosen = heapq.nsmallest(max(1, self._state.bounds.total // SHARE), found)
        if not chosen:
            self._look_from, self._in_vain_for = now + NONE_FOR, has
        for _, _, _, connection in chosen:
            self._state.refused.note_turned_away("idle")
            connection.make_way()
        return bool(chosen)

    def _idle(self, latest: float, most: int) -> Iterator[tuple[int, float, int, GuardedProtocol]]:
        """Yield connections idle since `latest`, or of an address with more than `most`; the first to go is least."""
        held = self._state.counts.of
        for connection in cast("set[GuardedProtocol]", self._state.connections):
            since = connection.idle_since()
            if since is None:
                continue
            group = UNBOUNDED if connection.place is None else connection.place.group
            # A trusted proxy has many connections because it has many clients.
            many = 0 if group == UNBOUNDED else held[group]
            if since <= latest or many > most:
                yield -many, since, id(connection), connection
