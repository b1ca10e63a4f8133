"""Bounding the TLS handshakes that run at once; the others wait.

A handshake takes some 50 KiB as soon as it has begun, and keeps them until it ends. So their number is bounded, and of
one address only a share may run. The others wait as bare sockets, and begin when another handshake is done. A burst of
honest clients is slowed down by that and loses nobody. Where others wait, a handshake that is not done after
`CROWDED_SECONDS` is dropped, the oldest of the address that has most of them first.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import takewhile
from typing import Final, Protocol

from proxy.server.connection_counts import UNBOUNDED

SHARE: Final = 4
"""One address may run at most 1/`SHARE` of the handshakes that may run at once."""
CROWDED_SECONDS: Final = 1.0
"""Seconds for a handshake while others wait for its place. An honest client needs two round trips."""
LOOK_EVERY: Final = 0.1
"""Seconds between two looks at those that run, while others wait."""

DROPPED_AT_ONCE: Final = 64
"""The most waiting handshakes that are dropped in one look, so that the look is short."""


class Handshake(Protocol):
    """A handshake, as `Handshakes` sees it."""

    group: str
    """The group of its client; see `proxy.server.connection_counts.group_of`."""
    since: float
    """The loop's time of its `accept`; from `begin` on, of its beginning."""

    def begin(self) -> None:
        """Start it; `Handshakes.done` is called when it is over."""

    def drop(self) -> None:
        """Hang up, whether it has begun or not."""


class Handshakes:
    """Begins handshakes as their bound allows.

    Args:
        bound: how many may run at once; asked each time, as a reload may change it.
        patience: seconds that one may wait to begin.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, bound: Callable[[], int], patience: Callable[[], float]
    ) -> None:
        self._loop = loop
        self._bound = bound
        self._patience = patience
        self._running: dict[str, dict[Handshake, None]] = {}
        """By group, the oldest first; a group without one is not in it."""
        self._waiting: dict[str, deque[Handshake]] = {}
        """By group, the oldest first; the group whose turn is next comes first."""
        self._dropped: set[Handshake] = set()
        """Handshakes that were dropped, and are not done yet."""
        self.running = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """The number of handshakes that wait to begin."""
        return sum(map(len, self._waiting.values()))

    def add(self, handshake: Handshake) -> None:
        """Begin `handshake`, now or later."""
        if not self._waiting.get(handshake.group) and self._has_room(handshake.group):
            self._begin(handshake)
            return
        self._waiting.setdefault(handshake.group, deque()).append(handshake)
        self._make_room()
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK_EVERY, self._look)

    def done(self, handshake: Handshake) -> None:
        """Note that a handshake which had begun is over, however it ended."""
        group = self._running[handshake.group]
        del group[handshake]
        if not group:
            del self._running[handshake.group]
        self._dropped.discard(handshake)
        self.running -= 1
        self._fill()

    def close(self) -> None:
        """Drop all of them."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, {}
        for group in [*waiting.values(), *map(list, self._running.values())]:
            for handshake in group:
                handshake.drop()

    def _has_room(self, group: str) -> bool:
        return self.running < self._bound() and not self._has_its_share(group)

    def _has_its_share(self, group: str) -> bool:
        return group != UNBOUNDED and len(self._running.get(group, ())) >= max(1, self._bound() // SHARE)

    def _begin(self, handshake: Handshake) -> None:
        self._running.setdefault(handshake.group, {})[handshake] = None
        self.running += 1
        handshake.since = self._loop.time()
        handshake.begin()

    def _fill(self) -> None:
        """Begin the waiting handshakes that may begin, one of each group in turn."""
        while self.running < self._bound():
            group = next((group for group in self._waiting if not self._has_its_share(group)), None)
            if group is None:
                return
            line = self._waiting.pop(group)
            self._begin(line.popleft())
            if line:
                self._waiting[group] = line  # behind all others

    def _look(self) -> None:
        """Drop the handshakes that wait too long, make room for the others, and come back while any of them waits."""
        latest = self._loop.time() - self._patience()
        late = [group for group, line in self._waiting.items() if line[0].since < latest]
        left = DROPPED_AT_ONCE
        for group in late:
            line = self._waiting[group]
            while line and line[0].since < latest and left:
                line.popleft().drop()
                left -= 1
            if not line:
                del self._waiting[group]
        for group in self._waiting.keys() & self._running.keys():
            if self._has_its_share(group):
                self._drop(self._overdue(group))
        if self._waiting:
            self._make_room()
        self._fill()
        self._timer = self._loop.call_later(LOOK_EVERY, self._look) if self._waiting else None

    def _make_room(self) -> None:
        """Drop the overdue handshakes of the group that has most of them, where no more may run."""
        if self.running - len(self._dropped) >= self._bound():
            self._drop(max(map(self._overdue, self._running), key=len, default=[]))

    def _drop(self, handshakes: list[Handshake]) -> None:
        for handshake in handshakes:
            self._dropped.add(handshake)
            handshake.drop()

    def _overdue(self, group: str) -> list[Handshake]:
        """Return the handshakes of `group` that run too long, the oldest first."""
        since = self._loop.time() - CROWDED_SECONDS
        late = takewhile(lambda handshake: handshake.since < since, self._running[group])
        return [handshake for handshake in late if handshake not in self._dropped]

    def __repr__(self) -> str:
        return f"<Handshakes {self.running} running, {self.waiting} waiting>"
