"""Those who wait for a change of an entry, or for work."""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager


class Bell:
    """Rings when something happens, and stays rung until somebody has waited for it."""

    __slots__ = ("_rung",)

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake who waits."""
        self._rung.set()

    async def wait(self, seconds: float) -> None:
        """Return when it rings, or after `seconds`."""
        if seconds > 0 and not self._rung.is_set():
            loop = asyncio.get_running_loop()
            timer = loop.call_later(seconds, self._rung.set)
            try:
                await self._rung.wait()
            finally:
                timer.cancel()
        self._rung.clear()


class Bells:
    """The bells of one journal. A bell that is held before one looks misses nothing that happens after the look."""

    def __init__(self) -> None:
        self._of: dict[str, set[Bell]] = {}
        self._work: set[Bell] = set()

    @contextmanager
    def of(self, id: str) -> Iterator[Bell]:
        """Hold a bell that rings when an entry changes."""
        bell = Bell()
        self._of.setdefault(id, set()).add(bell)
        try:
            yield bell
        finally:
            self._of[id].discard(bell)
            if not self._of[id]:
                del self._of[id]

    @contextmanager
    def work(self) -> Iterator[Bell]:
        """Hold a bell that rings when any entry changes."""
        bell = Bell()
        self._work.add(bell)
        try:
            yield bell
        finally:
            self._work.discard(bell)

    def ring(self, ids: Collection[str]) -> None:
        """Ring for these entries."""
        for name in ids:
            for bell in self._of.get(name, ()):
                bell.ring()
        if ids:
            for bell in self._work:
                bell.ring()
