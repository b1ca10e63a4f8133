"""Backends that come back: which of those that failed a request may have it again, and how long it waits for one."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from time import monotonic

from proxy.kernel.exchange import Exchange
from proxy.pool.backend import Backend
from proxy.pool.free_slot_news import FreeSlotNews


def still_tried(exchange: Exchange, backends: Mapping[str, Backend]) -> tuple[str, ...]:
    """Return the names of the backends that got `exchange` and did not come back since.

    A backend that was restarted, or that thawed, is as good as one that was not tried. One that was silent may have
    come back while the request waited there; one that answered with an error must have been away after that.
    """
    if not exchange.tried:
        return ()
    return tuple(name for name in exchange.tried if not _came_back(name, exchange, backends.get(name)))


def _came_back(name: str, exchange: Exchange, backend: Backend | None) -> bool:
    ended = [attempt for attempt in exchange.history if attempt.backend == name]
    if backend is None or len(ended) < exchange.tried.count(name):  # it runs there now
        return False
    last = ended[-1]
    if last.error is None:
        return False
    return backend.health.recovered_at >= (last.began if last.silent else last.ended)


def may_come_back(exchange: Exchange, backends: Collection[Backend], model: str | None) -> list[Backend]:
    """Return the `backends` that are not up, and for which it is worth to wait.

    Those are backends that were not tried, and those that were silent when they were. One that was never up may have
    any model, but a name that nobody knows is likelier: it counts only where no other one was up either.
    """
    silent = {attempt.backend: attempt.silent for attempt in exchange.history}
    nobody_was_up = all(backend.seen_at is None for backend in backends)
    return [
        backend
        for backend in backends
        if backend.health.shown in ("suspect", "down")
        and exchange.pinned in (None, backend.name)
        and backend.has(model) is not False
        and (backend.seen_at is not None or nobody_was_up)
        and (silent.get(backend.name, True) or backend.health.unanswered)
    ]


class Comebacks:
    """Requests that wait for a backend to come back.

    A backend is waited for while it went away a short time ago. One that has been away for longer is asked once more,
    and waited for only if it answers; so where all backends have been dead for a while, requests fail at once.

    Args:
        news: tells of each probe that has ended.
    """

    def __init__(self, news: FreeSlotNews) -> None:
        self._waiting: set[asyncio.Future[None]] = set()
        news.listen(self._wake)

    async def wait(
        self,
        backends: Sequence[Backend],
        seconds: float,
        *,
        there: Callable[[], bool],
        ask: Callable[[Backend], bool],
    ) -> bool:
        """Wait until `there` returns True, for `seconds` at most; return whether it does.

        Args:
            backends: the backends that may come back.
            seconds: how long to wait, and how long ago a backend may have gone away.
            there: says whether the request can be sent again.
            ask: has a backend probed soon; returns False where nobody probes it.
        """
        began = monotonic()
        asked = [backend for backend in backends if ask(backend)]
        while not there():
            now = monotonic()
            if now - began >= seconds or not any(_hope(backend, began, now - seconds) for backend in asked):
                return False
            await self._news(seconds - (now - began))
        return True

    async def _news(self, seconds: float) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await asyncio.wait((waiter,), timeout=seconds)
        finally:
            self._waiting.discard(waiter)
            waiter.cancel()

    def _wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)


def _hope(backend: Backend, began: float, recent: float) -> bool:
    """Return whether `backend` was not asked since `began`, or does not answer but was up at the time `recent`."""
    health = backend.health
    if health.shown not in ("suspect", "down"):
        return False
    return health.probed_at < began or (health.unanswered and health.left_at >= recent)
