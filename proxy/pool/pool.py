"""The pool: all backends, and the leases that requests take on them.

It implements the services `Backends` and `Slots`. What the pool learns from the ends of requests is in
`proxy.pool.outcome_recorder`.
"""

import random
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from time import monotonic
from typing import Final

from proxy.kernel import error_codes as codes
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.model_names import ModelName
from proxy.kernel.shared_line import Demand
from proxy.pool.affinity import Affinity
from proxy.pool.backend import Backend
from proxy.pool.candidates import snapshot
from proxy.pool.comebacks import Comebacks, may_come_back, still_tried
from proxy.pool.first_round import FirstRound
from proxy.pool.free_slot_news import FreeSlotNews
from proxy.pool.health import Rules
from proxy.pool.lease import Lease
from proxy.pool.outcome_recorder import OutcomeRecorder
from proxy.pool.permits_wanted import permits_wanted
from proxy.pool.request_needs import Need, need_of
from proxy.pool.selection import Choice, Wait, choose
from proxy.upstream.timeouts import Timeouts

LOAD_TIME: Final = 10.0
"""Seconds to assume for loading a model before a load was measured."""
_BY_LOAD: Final[Sequence[str]] = ("least_busy",)
"""The strategies for a request that runs no model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """How the backends are used together. The policy file alone has defaults.

    Attributes:
        timeouts: how long each part of a request may take.
        rules: when a backend changes its state.
        prefer: names of the selection strategies, the most important first.
        spread_after: number of requests that may wait for a backend that has the model in memory; for more, the model
            is loaded on another backend too.
        grace: least seconds for which a slot stays taken when its client left before the first token; 0 for none.
        grace_at_most: most seconds; what is in between is learned.
        eject_share: the largest share of the backends that may be ejected at once.
    """

    timeouts: Timeouts
    rules: Rules
    prefer: Sequence[str]
    spread_after: int
    grace: float
    grace_at_most: float
    eject_share: float


class Pool:
    """All backends of one configuration.

    Attributes:
        backends: the backends in the order of the policy file.
        retired: those that were taken out, and are closed when their last request has ended.
        outcomes: what the pool learned from the ends of requests.
        blame: judges failed requests; part of `outcomes`.
        first_round: the first probe of each backend.
        ask_fleet: asks for a permit, where the slots are shared with other proxies.
    """

    def __init__(self, backends: Sequence[Backend], options: PoolOptions) -> None:
        self.backends = list(backends)
        self.options = options
        self.timeouts = self.options.timeouts
        self._by_name = {backend.name: backend for backend in self.backends}
        self.retired: list[Backend] = []
        self._affinity = Affinity()
        self._news = FreeSlotNews()
        self._comebacks = Comebacks(self._news)
        self.first_round = FirstRound()
        self._stale: Callable[[Backend], bool] = lambda _: False
        self.ask_fleet: Callable[[Demand], Awaitable[None]] | None = None
        self.outcomes = OutcomeRecorder(
            self._affinity, changed=self.changed, stale=lambda backend: self._stale(backend)
        )
        self.outcomes.watch(self.backends, self.options.eject_share)
        self.blame = self.outcomes.blame

    def replace(self, backends: Sequence[Backend], options: PoolOptions) -> None:
        """Use `backends` from now on. A backend that is not among them finishes its requests and is then closed.

        A backend with the transport of a current one is the same host with other options: the proxy keeps all that it
        knows of the host, and the requests that run there.
        """
        there = {backend.transport: backend for backend in self.backends}
        drained = {backend.name for backend in self.backends if backend.health.draining}
        before, self.backends = self.backends, []
        for described in backends:
            backend = there.get(described.transport, described)
            if backend is not described:
                backend.describe_anew(described)
            backend.health.rules = options.rules
            backend.health.draining = backend.name in drained  # the operator drained it, not the file
            self.backends.append(backend)
        self._by_name = {backend.name: backend for backend in self.backends}
        self.options, self.timeouts = options, options.timeouts
        self.outcomes.watch(self.backends, options.eject_share)
        self.retired += [backend for backend in before if backend not in self.backends]
        self.changed()

    async def close_retired(self) -> None:
        """Close the backends that `replace` took out and that run no request any more."""
        idle = [backend for backend in self.retired if not backend.leases]
        self.retired = [backend for backend in self.retired if backend.leases]
        for backend in idle:
            await backend.transport.aclose()

    def knows(self, model: str) -> bool:
        """Return whether a backend lists the model of this canonical key."""
        return any(backend.has(model) for backend in self.backends)

    def named(self, name: str) -> Backend | None:
        """Return the backend called `name`, None where there is none."""
        return self._by_name.get(name)

    # Leases

    def lease(self, exchange: Exchange) -> Lease:
        """Lease a backend at once; raises Refused (503) where every backend that could serve `exchange` is full."""
        taken = self._take(exchange, None)
        if isinstance(taken, Wait):
            raise _no_slot(self.service_time(exchange))
        return taken

    def try_lease(self, exchange: Exchange, *, waiting: int = 0) -> Lease | str:
        """Lease the best backend that has a free slot; where it is better to wait, return what for (see `Slots`).

        `waiting` is the number of requests that wait for the same model, this one included. Raises Refused where there
        is no backend at all.
        """
        taken = self._take(exchange, waiting)
        return taken.reason if isinstance(taken, Wait) else taken

    def hold(self, backend: Backend) -> Lease:
        """Lease `backend` for a request that takes no slot."""
        return Lease(backend, freed=self._news.freed)

    def would(self, exchange: Exchange, *, waiting: int | None = None) -> Choice | Wait:
        """Return what `try_lease` would decide (`lease`, without `waiting`), but lease nothing."""
        return self._choose(exchange, need_of(exchange), waiting)

    def _take(self, exchange: Exchange, waiting: int | None) -> Lease | Wait:
        need = need_of(exchange)
        choice = self._choose(exchange, need, waiting)
        if isinstance(choice, Wait):
            return choice
        if need.conversation is not None:
            self._affinity.put(need.conversation, choice.name)
        options = self.options
        return Lease(
            self._by_name[choice.name],
            need,
            reason=choice.reason,
            grace=options.grace,
            grace_at_most=options.grace_at_most,
            freed=self._news.freed,
        )

    def _choose(self, exchange: Exchange, need: Need, waiting: int | None, *, trial: bool = False) -> Choice | Wait:
        queued = waiting is not None
        if exchange.pinned is not None:
            return _pinned(exchange.pinned, need, self._by_name, queued=queued)
        friend = self._affinity.get(need.conversation) if need.conversation is not None else None
        choice = choose(
            snapshot(self.backends, need, friend, monotonic(), queued=queued, trial=trial),
            tried=still_tried(exchange, self._by_name),
            prefer=self.options.prefer if need.runs else _BY_LOAD,
            patience=None if waiting is None else _patience(self, exchange, need, waiting),
            random=random.random,
        )
        if choice is None:
            raise Refused(503, "no backend is there for this request", code=codes.NO_BACKEND)
        full = isinstance(choice, Wait) and queued and not trial
        if full and any(backend.trial_due(need.runner or "") for backend in self.backends):
            return self._choose(exchange, need, waiting, trial=True)
        return choice

    # The services Backends and Slots

    def untried(self, exchange: Exchange, *, ejected: bool = False) -> bool:
        """Return whether a usable backend is left that `exchange` was not sent to, or that came back since.

        With `ejected`, one that is ejected and has room counts too.
        """
        tried = still_tried(exchange, self._by_name)
        if exchange.pinned is not None:
            return exchange.pinned not in tried
        if any(backend.name not in tried for backend in _serving(self.backends, exchange)):
            return True
        need = need_of(exchange)
        return ejected and any(
            backend.health.shown == "ejected" and backend.has(need.model) is not False and backend.free(need.slot_of)
            for backend in self.backends
            if backend.name not in tried
        )

    async def comeback(self, exchange: Exchange, seconds: float) -> bool:
        """See `Backends.comeback`."""
        return await self._comebacks.wait(
            may_come_back(exchange, self.backends, need_of(exchange).model),
            seconds,
            there=lambda: self.untried(exchange, ejected=True),
            ask=self._stale,
        )

    async def settled(self, exchange: Exchange) -> None:
        """See `Slots.settled`. A request that names its backend does not wait, nor any where there is only one."""
        if not self.first_round.pending or exchange.pinned is not None or len(self.backends) < 2:
            return
        model = need_of(exchange).model
        if model is not None:
            await self.first_round.wait(lambda: self.knows(model))

    def serves(self, exchange: Exchange, model: ModelName | None = None) -> bool:
        """Return whether a usable backend has, or may have, the model of `exchange`, or `model` in its place."""
        return any(True for _ in _serving(self.backends, exchange, model))

    def any_free(self, *, if_asked: bool = False) -> bool:
        """See `Slots.any_free`. True also where a backend is drained, as `try_lease` may have to refuse."""
        for backend in self.backends:
            if (backend.could_have("room") if if_asked else not backend.full) or backend.health.draining:
                return True
        return False

    def wanted(self, exchange: Exchange) -> tuple[str, ...]:
        """See `Slots.wanted`."""
        need = need_of(exchange)
        friend = self._affinity.get(need.conversation) if need.conversation is not None else None
        patience = _patience(self, exchange, need, waiting=1)
        prefer = self.options.prefer if need.runs else _BY_LOAD
        return permits_wanted(exchange, need, friend, self.backends, prefer=prefer, patience=patience)

    def lane(self, exchange: Exchange) -> Hashable:
        """Return the key of the requests that the same slots can serve: where one has to wait, all of them have to."""
        need = need_of(exchange)
        return need.model, need.setup, need.embeds, exchange.pinned, still_tried(exchange, self._by_name)

    def capacity(self, exchange: Exchange) -> int | None:
        """Return how many requests like this one can run at once on all usable backends; None for no bound."""
        need, total = need_of(exchange), 0
        for backend in _serving(self.backends, exchange):
            bound = backend.at_once(need.runner or "", embeds=need.embeds)
            if bound is None or need.slot_of is None:
                return None
            total += bound
        return total

    def service_time(self, exchange: Exchange) -> float | None:
        """Return the average seconds that requests like this one hold a slot; None before the first one ended."""
        return self.outcomes.service_times.get(need_of(exchange).runner or "")

    # Notifications

    def on_free(self, callback: Callable[[], None]) -> None:
        """Call `callback` when a waiting request may find a slot; at most once in each turn of the event loop."""
        self._news.listen(callback)

    def on_stale(self, callback: Callable[[Backend], bool]) -> None:
        """Call `callback` with each backend that has to be probed again, as what is known of it may be outdated.

        It returns whether somebody probes that backend.
        """
        self._stale = callback

    def changed(self) -> None:
        """Call the listeners soon: a slot is free, a backend is usable again, or a list of models changed."""
        self._news.tell_soon()

    async def aclose(self) -> None:
        """Close the connections to all backends."""
        for backend in (*self.backends, *self.retired):
            await backend.transport.aclose()

    def __repr__(self) -> str:
        retired = f", {len(self.retired)} more to close" if self.retired else ""
        in_flight = sum(backend.leases for backend in self.backends)
        return f"<Pool of {len(self.backends)}{retired}, {in_flight} in flight: {self.backends}>"


def _serving(backends: Sequence[Backend], exchange: Exchange, other: ModelName | None = None) -> Iterator[Backend]:
    """Return the usable backends that have, or may have, the model of `exchange`, or the `other` one in its place."""
    now, pinned = monotonic(), exchange.pinned
    model = need_of(exchange).model if other is None else other.key
    for backend in backends:
        if pinned in (None, backend.name) and backend.health.usable(now) and backend.has(model) is not False:
            yield backend


def _no_slot(service_time: float | None) -> Refused:
    seconds = ceil(min(60.0, service_time or 1.0))
    return Refused(
        503,
        "every backend that could serve this request runs as many as it can; try again later",
        code=codes.NO_SLOT,
        headers={"retry-after": str(max(1, seconds))},
    )


def _pinned(name: str, need: Need, backends: Mapping[str, Backend], *, queued: bool) -> Choice | Wait:
    """Return the backend that a request names, whatever its state; raises Refused (404, 503)."""
    backend = backends.get(name)
    if backend is None:
        names = ", ".join(backends)
        raise Refused(404, f"there is no backend of that name; there are {names}", code=codes.UNKNOWN_BACKEND)
    if backend.health.draining and need.runs:
        raise Refused(503, f"{name} is being drained and takes no new requests", code=codes.DRAINING)
    free = backend.free(need.slot_of, embeds=need.embeds, queued=queued, trial=True)
    return Choice(name, "pinned") if free else Wait("slots")


def _patience(pool: Pool, exchange: Exchange, need: Need, waiting: int) -> int:
    """Return how many may still wait for a warm backend, this one included; 0 after as long as a load takes."""
    worth = pool.outcomes.load_times.get(need.runner or "") or LOAD_TIME
    if monotonic() - exchange.started_at >= worth:
        return 0
    return max(0, pool.options.spread_after + 1 - waiting)
