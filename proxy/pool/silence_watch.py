"""Notice a backend that owes first bytes and has fallen silent, and move its requests once it is down.

Ollama sends nothing before its first token, so a request that waits looks the same at a busy backend and at a frozen
one. A question tells them apart: a busy Ollama answers ``/api/version`` at once. So a backend that owes a first byte,
and that was not heard for a while, is probed, at growing intervals as long as it answers. One that does not answer is
probed again and again, and is down after ``health.down_after`` probes. Then each request that waits there moves, if it
may be sent again and another backend can be used; otherwise it stays, as a frozen backend may thaw.

One task looks at all backends. Nothing is timed or scheduled for a request, and a backend that is heard is not probed.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.pool.awaited_answer import AwaitedAnswer
from proxy.pool.backend import Backend
from proxy.pool.request_needs import need_of
from proxy.pool.selection import Choice, Wait

log = structlog.get_logger("ollama_proxy.pool")


class Hosts(Protocol):
    """The pool, as far as it matters here; see `proxy.pool.pool.Pool`."""

    backends: list[Backend]
    retired: list[Backend]

    def untried(self, exchange: Exchange, *, ejected: bool = False) -> bool:
        """Return whether a usable backend is left for `exchange`."""

    def would(self, exchange: Exchange, *, waiting: int | None = None) -> Choice | Wait:
        """Return which backend `exchange` would get."""

    def named(self, name: str) -> Backend | None:
        """Return the backend called `name`."""


@dataclass(slots=True)
class _Suspicion:
    """The questions to one backend about one silence.

    Attributes:
        since: when the request began to wait that waits longest there; another one begins another silence.
        next_at: when to ask again, by the loop's time.
        pause: seconds from the next question to the one after it.
    """

    since: float
    next_at: float
    pause: float


class SilenceWatch:
    """Probes backends that owe first bytes and are silent, and moves requests from those that are down.

    Args:
        hosts: the pool.
        ask: has a backend probed soon.
    """

    def __init__(self, hosts: Hosts, ask: Callable[[Backend], object]) -> None:
        self._hosts = hosts
        self._ask = ask
        self._suspicions: dict[Backend, _Suspicion] = {}

    async def run(self, pace: Callable[[], tuple[float, float]]) -> None:
        """Look again and again, until it is cancelled; `pace` returns the arguments of `look`."""
        while True:
            shortest, longest = pace()
            await asyncio.sleep(shortest)
            self.look(shortest, longest)

    def look(self, shortest: float, longest: float) -> None:
        """Look at each backend once.

        Args:
            shortest: seconds of silence that raise a suspicion.
            longest: the longest pause between two questions to a backend that answers them.
        """
        now = asyncio.get_running_loop().time()
        for backend in (*self._hosts.backends, *self._hosts.retired):
            try:
                self._look_at(backend, now, shortest, longest)
            except Exception:
                log.exception("watch_failed", backend=backend.name)  # a bug in the proxy must not end the watch

    def _look_at(self, backend: Backend, now: float, shortest: float, longest: float) -> None:
        if not backend.awaited:
            self._suspicions.pop(backend, None)
        elif backend.health.state == "down":
            self._move(backend)
        elif backend.health.unanswered:
            self._ask(backend)
        else:
            self._suspect(backend, now, shortest, longest)

    def _suspect(self, backend: Backend, now: float, shortest: float, longest: float) -> None:
        since = next(iter(backend.awaited)).since
        if now - max(since, backend.heard) < shortest:
            return
        before = self._suspicions.get(backend)
        if before is None or before.since != since:
            before = self._suspicions[backend] = _Suspicion(since, now, shortest)
        if now >= before.next_at:
            before.pause = min(longest, before.pause * 2)
            before.next_at = now + before.pause
            self._ask(backend)

    def _move(self, backend: Backend) -> None:
        waiting: Sequence[AwaitedAnswer] = [one for one in backend.awaited if one.movable]
        moved: Counter[str] = Counter()  # those that cannot queue, by the backend whose slots they will take
        for one in waiting:
            if self._finds_place(one.exchange, moved):
                one.call_off(backend.health.reason)

    def _finds_place(self, exchange: Exchange, moved: Counter[str]) -> bool:
        """Return whether a usable backend is left for `exchange`, with room unless it can queue for it."""
        if not self._hosts.untried(exchange):
            return False
        if exchange.ticket is not None:
            return True
        try:
            choice = self._hosts.would(exchange)
        except Refused:
            return False
        backend = self._hosts.named(choice.name) if isinstance(choice, Choice) else None
        if backend is None or moved[backend.name] >= backend.places(need_of(exchange).slot_of):
            return False
        moved[backend.name] += 1
        return True

    def forget(self, backend: Backend) -> None:
        """Forget a backend that was taken out of the pool."""
        self._suspicions.pop(backend, None)
