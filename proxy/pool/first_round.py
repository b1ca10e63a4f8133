"""The first question to every backend: until it is answered or given up on, nobody knows which models there are."""

import asyncio
from collections.abc import Callable, Iterable

from proxy.pool.backend import Backend


class FirstRound:
    """The backends whose first probe has not ended.

    `Probes` bounds each probe by ``health.timeout``, and so the whole round.
    """

    def __init__(self) -> None:
        self._pending: set[Backend] = set()
        self._over = False
        self._news = asyncio.Event()
        self._then: list[Callable[[], None]] = []

    @property
    def pending(self) -> bool:
        """Whether the first probe of a backend has not ended yet."""
        return bool(self._pending)

    @property
    def over(self) -> bool:
        """Whether all backends of the start have been asked; it stays so when a backend is added."""
        return self._over or not self._pending

    def expect(self, backends: Iterable[Backend]) -> None:
        """Add `backends`, which are about to be probed for the first time."""
        self._pending.update(backends)

    def ended(self, backend: Backend) -> None:
        """Note that the first probe of `backend` has ended, or that there will be none; may be called again."""
        if backend not in self._pending:
            return
        self._pending.discard(backend)
        self._over = self._over or not self._pending
        self._news.set()
        self._news = asyncio.Event()
        if self._over:
            then, self._then = self._then, []
            for callback in then:
                callback()

    def then(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the round is over, at once if it is."""
        if self.over:
            callback()
        else:
            self._then.append(callback)

    async def wait(self, enough: Callable[[], bool] = lambda: False) -> None:
        """Wait until no backend is pending, or `enough` returns True."""
        while self._pending and not enough():
            await self._news.wait()
