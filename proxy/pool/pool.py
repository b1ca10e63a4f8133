"""The backends together: who gets a request, and how many each runs. Implements the services Backends and Slots."""

import asyncio
import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from time import monotonic
from typing import Final

from proxy.kernel.attempts import Attempt
from proxy.kernel.errors import Refused, UpstreamAnswer, UpstreamError
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import PoolPart
from proxy.kernel.model_names import ModelName
from proxy.pool.averages import Trends
from proxy.pool.backend import Backend
from proxy.pool.blame import Blame
from proxy.pool.candidates import snapshot
from proxy.pool.conversations import Conversations
from proxy.pool.health import Rules
from proxy.pool.lease import Lease
from proxy.pool.need import Need, need_of
from proxy.pool.selection import Choice, Criterion, Wait, choose
from proxy.pool.verdict_of_end import is_failure, word_for
from proxy.upstream.timeouts import Timeouts

LOAD_TIME: Final = 10.0
"""Seconds that loading a model takes, as long as nobody has measured it."""
_BY_LOAD: Final[Sequence[Criterion]] = ("least_busy",)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """How the backends are used together. The policy file alone has defaults.

    Attributes:
        timeouts: how long each part of a request may take.
        rules: when a backend changes its state.
        prefer: what decides between backends that could serve a request, the most important first.
        spread_after: requests that may wait for a model where it is warm; when more do, it is loaded elsewhere too.
        grace: seconds a slot is held back when its client left before the first token.
        eject_share: the share of backends that may be ejected at once.
    """

    timeouts: Timeouts
    rules: Rules
    prefer: Sequence[Criterion]
    spread_after: int
    grace: float
    eject_share: float


class Pool:
    """All backends of one configuration."""

    def __init__(self, backends: Sequence[Backend], options: PoolOptions) -> None:
        self.backends = list(backends)
        self.options = options
        self.timeouts = self.options.timeouts
        self._by_name = {backend.name: backend for backend in self.backends}
        self._retired: list[Backend] = []
        self._conversations = Conversations()
        self._listeners: list[Callable[[], None]] = []
        self._telling = False
        self._stale: Callable[[Backend], None] = lambda _: None
        self._services = Trends()
        self._loads = Trends()
        self.blame = Blame(spare=self._can_spare, ejected=self._was_ejected)

    def replace(self, backends: Sequence[Backend], options: PoolOptions) -> None:
        """Use `backends` from now on. Those that are no longer there finish what they run, then they are closed.

        One that has the transport of one that is there is the same host in other words: what is known of it stays, and
        so does what it runs.
        """
        there = {backend.transport: backend for backend in self.backends}
        drained = {backend.name for backend in self.backends if backend.health.draining}
        before, self.backends = self.backends, []
        for described in backends:
            backend = there.get(described.transport, described)
            if backend is not described:
                backend.describe_anew(described)
            backend.health.rules = options.rules
            backend.health.draining = backend.name in drained  # the operator's word, whatever the file says of the rest
            self.backends.append(backend)
        self._by_name = {backend.name: backend for backend in self.backends}
        self.options, self.timeouts = options, options.timeouts
        self._retired += [backend for backend in before if backend not in self.backends]
        self.changed()

    async def close_retired(self) -> None:
        """Close the backends that `replace` took out and that run nothing any more."""
        idle = [backend for backend in self._retired if not backend.leases]
        self._retired = [backend for backend in self._retired if backend.leases]
        for backend in idle:
            await backend.transport.aclose()

    def knows(self, model: str) -> bool:
        """Whether a backend lists the model of this canonical key."""
        return any(backend.has(model) for backend in self.backends)

    def named(self, name: str) -> Backend | None:
        """Return the backend called `name`."""
        return self._by_name.get(name)

    # Leases

    def lease(self, exchange: Exchange) -> Lease:
        """Lease a backend at once; raises Refused (503) where every one that could serve `exchange` is full."""
        taken = self._take(exchange, None)
        if isinstance(taken, Wait):
            raise self._no_slot(exchange)
        return taken

    def try_lease(self, exchange: Exchange, *, waiting: int = 0) -> Lease | str:
        """Lease the best backend that has a slot now; where waiting is better than what there is, return what for.

        `waiting` says how many requests wait for the same model, this one included. Raises Refused where there is no
        backend at all.
        """
        taken = self._take(exchange, waiting)
        return taken.reason if isinstance(taken, Wait) else taken

    def hold(self, backend: Backend) -> Lease:
        """Lease `backend` for something that takes no slot."""
        return Lease(backend, freed=self._freed)

    def would(self, exchange: Exchange, *, waiting: int | None = None) -> Choice | Wait:
        """Return what `try_lease` would decide, or `lease` without `waiting`; nothing is leased."""
        return self._choose(exchange, need_of(exchange), waiting)

    def _take(self, exchange: Exchange, waiting: int | None) -> Lease | Wait:
        need = need_of(exchange)
        choice = self._choose(exchange, need, waiting)
        if isinstance(choice, Wait):
            return choice
        if need.talk is not None:
            self._conversations.put(need.talk, choice.name)
        options = self.options
        return Lease(self._by_name[choice.name], need, reason=choice.reason, grace=options.grace, freed=self._freed)

    def _no_slot(self, exchange: Exchange) -> Refused:
        seconds = ceil(min(60.0, self.service_time(exchange) or 1.0))
        return Refused(
            503,
            "every backend that could serve this request runs as many as it can; try again later",
            code="no_slot",
            headers={"retry-after": str(max(1, seconds))},
        )

    def _choose(self, exchange: Exchange, need: Need, waiting: int | None) -> Choice | Wait:
        if exchange.pinned is not None:
            return self._pinned(exchange, need, exchange.pinned)
        friend = self._conversations.get(need.talk) if need.talk is not None else None
        choice = choose(
            snapshot(self.backends, need, friend, monotonic()),
            tried=exchange.tried,
            prefer=self.options.prefer if need.runs else _BY_LOAD,
            patience=None if waiting is None else self._patience(exchange, need, waiting),
            random=random.random,
        )
        if choice is None:
            raise Refused(503, "no backend is there for this request", code="no_backend")
        return choice

    def _pinned(self, exchange: Exchange, need: Need, name: str) -> Choice | Wait:
        """Return the backend that the request names, whatever its state."""
        backend = self._by_name.get(name)
        if backend is None:
            names = ", ".join(self._by_name)
            raise Refused(404, f"there is no backend of that name; there are {names}", code="unknown_backend")
        if backend.health.draining and need.runs:
            raise Refused(503, f"{name} is being drained and takes no new requests", code="draining")
        return Choice(name, "pinned") if backend.free(need.model if need.runs else None) else Wait("slots")

    def _patience(self, exchange: Exchange, need: Need, waiting: int) -> int:
        """Return how many may still wait, this one included; nobody waits longer for a warm one than a load takes."""
        worth = self._loads.get(need.model or "") or LOAD_TIME
        if monotonic() - exchange.started_at >= worth:
            return 0
        return max(0, self.options.spread_after + 1 - waiting)

    # What is learned

    def finished(self, exchange: Exchange, lease: Lease, error: BaseException | None) -> None:
        """Learn from how a request to a backend ended: with an answer (None), or with `error`."""
        backend, now = lease.backend, monotonic()
        attempt = Attempt(backend.name, lease.began, now, lease.cold, word_for(error))
        exchange.part(PoolPart).history += (attempt,)
        if error is None:
            self.blame.served(exchange, lease, now)
            if lease.served and lease.model is not None:
                self._services.note(lease.model, lease.held, now)
                if lease.cold and lease.waited is not None:
                    self._loads.note(lease.model, lease.waited, now)
        elif isinstance(error, UpstreamError) and is_failure(error):
            self.blame.failed(exchange, lease, error, now)
            self._stale(backend)
        elif isinstance(error, UpstreamAnswer) and error.busy:
            backend.failed(now)  # as load only: it has enough to do
        elif isinstance(error, UpstreamAnswer):
            model = need_of(exchange).model
            if error.about == "request":
                self.blame.refused(exchange, backend, now)
            elif error.missing and model is not None:
                backend.lacks(model)
                self._stale(backend)
        if isinstance(error, UpstreamError) and (talk := need_of(exchange).talk) is not None:
            self._conversations.drop(talk, backend.name)
        if exchange.route is not None and exchange.route.kind == "manage":
            self.touch(backend)

    def _was_ejected(self, backend: Backend) -> None:
        delay = max(0.0, backend.health.ejected_until - monotonic())
        asyncio.get_running_loop().call_later(delay, self.changed)

    def _can_spare(self, backend: Backend, now: float) -> bool:
        """Whether others are left: the last usable backend is never ejected, however it fails."""
        ejected = sum(other.health.state == "ejected" for other in self.backends if other is not backend)
        others = any(other.health.usable(now) for other in self.backends if other is not backend)
        return others and (ejected + 1) / len(self.backends) <= self.options.eject_share

    def touch(self, backend: Backend) -> None:
        """Say that something may have been changed at `backend`: what it listed may not be so any more."""
        backend.changed_at = monotonic()
        self._stale(backend)

    # What plugins may know

    def untried(self, exchange: Exchange, *, ejected: bool = False) -> bool:
        """Whether a usable backend is left that `exchange` was not sent to; or an `ejected` one that has room."""
        if exchange.pinned is not None:
            return exchange.pinned not in exchange.tried
        if any(backend.name not in exchange.tried for backend in self._serving(exchange)):
            return True
        need = need_of(exchange)
        return ejected and any(
            backend.health.shown == "ejected"
            and backend.has(need.model) is not False
            and backend.free(need.model if need.runs else None)
            for backend in self.backends
            if backend.name not in exchange.tried
        )

    def serves(self, exchange: Exchange, model: ModelName | None = None) -> bool:
        """Whether a backend can be used that has, or may have, what `exchange` asks for, or `model` in its place."""
        return any(True for _ in self._serving(exchange, model))

    def any_free(self) -> bool:
        """Whether a slot is free, or a backend drained: who waits for one of those has to be told."""
        return any(
            backend.slots is None or backend.active < backend.slots or backend.health.draining
            for backend in self.backends
        )

    def lane(self, exchange: Exchange) -> Hashable:
        """Return what makes requests interchangeable: where `try_lease` has nothing for one, it has nothing for any."""
        need = need_of(exchange)
        return need.model, need.setup, exchange.pinned, tuple(exchange.tried)

    def capacity(self, exchange: Exchange) -> int | None:
        """Return how many requests like this one can run at once; None for no bound."""
        need, total = need_of(exchange), 0
        for backend in self._serving(exchange):
            bounds = [
                bound for bound in (backend.slots, backend.model_slots.get(need.model or "")) if bound is not None
            ]
            if not bounds or not need.runs:
                return None
            total += min(bounds)
        return total

    def service_time(self, exchange: Exchange) -> float | None:
        """Return the trend of the seconds that requests like this one hold a slot; None before the first one ended."""
        return self._services.get(need_of(exchange).model or "")

    def _serving(self, exchange: Exchange, other: ModelName | None = None) -> Iterator[Backend]:
        now, pinned = monotonic(), exchange.pinned
        model = need_of(exchange).model if other is None else other.key
        for backend in self.backends:
            if pinned in (None, backend.name) and backend.health.usable(now) and backend.has(model) is not False:
                yield backend

    def on_free(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever a request that had to wait may find a place now; not more than once a turn."""
        self._listeners.append(callback)

    def on_stale(self, callback: Callable[[Backend], None]) -> None:
        """Call `callback` with a backend of which something is known no longer."""
        self._stale = callback

    def changed(self) -> None:
        """Say that a slot was given back, a backend came up, or a list of models changed."""
        if self._listeners and not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _freed(self, lease: Lease) -> None:
        if lease.model is not None:
            self.changed()

    def _tell(self) -> None:
        self._telling = False
        for callback in self._listeners:
            callback()

    async def aclose(self) -> None:
        """Close every connection."""
        for backend in (*self.backends, *self._retired):
            await backend.transport.aclose()

    def __repr__(self) -> str:
        return f"<Pool {self.backends}>"
