"""The backends together: who gets a request, and how many each runs. Implements the services Backends and Slots."""

import asyncio
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import ceil
from time import monotonic
from typing import Final

from proxy.affinity import Memory, conversation
from proxy.backend import TREND, Backend
from proxy.errors import ProxyError, Refused, UpstreamAnswer, UpstreamError, UpstreamTimeout
from proxy.exchange import Attempt, Exchange
from proxy.lease import Lease
from proxy.selection import Candidate, Choice, Criterion, Residency, Wait, choose

MODELS_TIMED: Final = 1000
"""Models whose service time is remembered."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `first_byte` is for a model that is in memory, `load` for one that is not, `idle` between two chunks."""

    connect: float = 2.0
    load: float = 600.0
    first_byte: float = 600.0
    idle: float = 120.0
    write: float = 30.0
    total: float = 3600.0


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """How the backends are used together.

    Attributes:
        prefer: what decides between backends that could serve a request, the most important first.
        spread_after: requests that may wait for a model where it is warm before it is loaded on another backend too.
        grace: seconds a slot is held back when its client left before the first token.
        eject_share: the share of backends that may be ejected at once.
    """

    timeouts: Timeouts = Timeouts()
    prefer: Sequence[Criterion] = ("resident", "affinity", "least_busy")
    spread_after: int = 4
    grace: float = 0.5
    eject_share: float = 0.5


class Pool:
    """All backends of one configuration."""

    def __init__(self, backends: Sequence[Backend], options: PoolOptions | None = None) -> None:
        self.backends = list(backends)
        self.options = options or PoolOptions()
        self.timeouts = self.options.timeouts
        self._by_name = {backend.name: backend for backend in self.backends}
        self._retired: list[Backend] = []
        self._conversations = Memory()
        self._listeners: list[Callable[[], None]] = []
        self._telling = False
        self._stale: Callable[[Backend], None] = lambda _: None
        self._seconds: dict[str, float] = {}

    def replace(self, backends: Sequence[Backend], options: PoolOptions) -> None:
        """Use `backends` from now on. Those that are no longer there finish what they run, then they are closed."""
        gone = [backend for backend in self.backends if backend not in backends]
        self.backends = list(backends)
        self._by_name = {backend.name: backend for backend in self.backends}
        self.options, self.timeouts = options, options.timeouts
        self._retired += gone
        self.changed()

    async def close_retired(self) -> None:
        """Close the backends that `replace` took out and that run nothing any more."""
        for backend in [backend for backend in self._retired if not backend.active]:
            self._retired.remove(backend)
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
        return self._take(exchange, None) or self._refuse(exchange)

    def try_lease(self, exchange: Exchange, *, waiting: int = 0) -> Lease | None:
        """Lease the best backend that has a slot now, or return None where waiting is better than what there is.

        `waiting` says how many requests wait for the same model, this one included. Raises Refused (503) where there
        is no backend at all.
        """
        return self._take(exchange, max(0, self.options.spread_after - waiting))

    def _take(self, exchange: Exchange, patience: int | None) -> Lease | None:
        kept = exchange.model.key if exchange.model is not None and _needs_memory(exchange) else None
        talk = self._conversation(exchange, kept)
        choice = self._choose(exchange, kept, talk, patience)
        if choice is None:
            raise Refused(503, "no backend is there for this request", code="no_backend")
        if isinstance(choice, Wait):
            exchange.reason = f"waits: {choice.reason}"
            return None
        backend = self._by_name[choice.name]
        if talk is not None:
            self._conversations.put(talk, backend.name)
        self._note(exchange, choice)
        return Lease(backend, kept, grace=self.options.grace, freed=lambda _: self.changed())

    def _conversation(self, exchange: Exchange, kept: str | None) -> bytes | None:
        if "affinity" in self.options.prefer and len(self.backends) > 1 and kept is not None:
            return conversation(exchange)
        return None

    def _choose(
        self, exchange: Exchange, kept: str | None, talk: bytes | None, patience: int | None
    ) -> Choice | Wait | None:
        model = exchange.model.key if exchange.model is not None else None
        return choose(
            self._candidates(exchange, model, kept, talk),
            tried=exchange.tried,
            prefer=self.options.prefer,
            patience=patience,
            random=random.random,
        )

    def _candidates(
        self, exchange: Exchange, model: str | None, kept: str | None, talk: bytes | None
    ) -> list[Candidate]:
        now = monotonic()
        friend = self._conversations.get(talk) if talk is not None else None
        speeds = [backend.first_byte for backend in self.backends if backend.first_byte]
        mean = sum(speeds) / len(speeds) if speeds else 1.0
        pinned = exchange.pinned
        return [
            Candidate(
                name=backend.name,
                load=backend.load(now),
                free=backend.free(kept),
                usable=backend.health.usable(now) or pinned is not None,
                suspect=backend.health.state == "suspect",
                has_model=True if pinned is not None else backend.has(model),
                residency=_residency(backend, kept),
                affinity=backend.name == friend,
                speed=min(2.0, max(0.5, (backend.first_byte or mean) / mean)),
                victim=backend.victim() if kept is not None else float("-inf"),
            )
            for backend in self.backends
            if pinned is None or backend.name == pinned
        ]

    def _note(self, exchange: Exchange, choice: Choice) -> None:
        exchange.backend = choice.name
        exchange.tried.append(choice.name)
        exchange.attempts += 1
        exchange.reason = "pinned" if exchange.pinned is not None else choice.reason

    def _refuse(self, exchange: Exchange) -> Lease:
        seconds = ceil(min(60.0, self.service_time(exchange) or 1.0))
        raise Refused(
            503,
            "every backend that could serve this request runs as many as it can; try again later",
            code="no_slot",
            headers={"retry-after": str(max(1, seconds))},
        )

    def finished(self, exchange: Exchange, lease: Lease, error: BaseException | None) -> None:
        """Learn from how a request to a backend ended: with an answer (None), or with `error`."""
        backend, now = lease.backend, monotonic()
        exchange.history.append(Attempt(backend.name, now - lease.held, now, lease.cold, _word_for(error)))
        health = backend.health
        if isinstance(error, UpstreamError):
            backend.last_error = error.message
        if error is None:
            health.request_succeeded(now)
            self._served(exchange, lease.held)
        elif isinstance(error, UpstreamError) and is_failure(error):
            if health.request_failed(now, error.message) and self._can_spare(backend, now):
                health.eject(now, error.message)
            self._stale(backend)
        elif isinstance(error, UpstreamAnswer) and not error.busy:
            health.request_succeeded(now)
            if error.missing and exchange.model is not None:
                backend.forget(exchange.model.key)
                self._stale(backend)
        else:
            health.give_up_trial()
        if exchange.route is not None and exchange.route.kind == "manage":
            self._stale(backend)

    def _can_spare(self, backend: Backend, now: float) -> bool:
        """Whether others are left: the last usable backend is never ejected, however it fails."""
        ejected = sum(other.health.state == "ejected" for other in self.backends)
        others = any(other.health.usable(now) for other in self.backends if other is not backend)
        return others and (ejected + 1) / len(self.backends) <= self.options.eject_share

    # What plugins and people may know

    def prospect(self, exchange: Exchange) -> Choice | Wait | None:
        """Return where `exchange` would be sent now; nothing is leased or remembered."""
        kept = exchange.model.key if exchange.model is not None and _needs_memory(exchange) else None
        return self._choose(exchange, kept, self._conversation(exchange, kept), None)

    def untried(self, exchange: Exchange) -> bool:
        """Whether a backend is left that can be used and that `exchange` was not sent to."""
        now = monotonic()
        model = exchange.model.key if exchange.model is not None else None
        return any(
            backend.health.usable(now) and backend.has(model) is not False
            for backend in self.backends
            if backend.name not in exchange.tried and exchange.pinned in (None, backend.name)
        )

    def lane(self, exchange: Exchange) -> Hashable:
        """Return what makes requests interchangeable: where `try_lease` has nothing for one, it has nothing for any."""
        model = exchange.model.key if exchange.model is not None and _needs_memory(exchange) else None
        return model, exchange.pinned, tuple(exchange.tried)

    def capacity(self, exchange: Exchange) -> int | None:
        """Return how many requests like this one can run at once; None for no bound."""
        now, total = monotonic(), 0
        model = exchange.model.key if exchange.model is not None else None
        for backend in self.backends:
            if exchange.pinned not in (None, backend.name) or backend.has(model) is False:
                continue
            if not backend.health.usable(now):
                continue
            bounds = [bound for bound in (backend.slots, backend.model_slots.get(model or "")) if bound is not None]
            if not bounds:
                return None
            total += min(bounds)
        return total

    def service_time(self, exchange: Exchange) -> float | None:
        """Return the trend of the seconds that requests like this one hold a slot; None before the first one ended."""
        model = exchange.model.key if exchange.model is not None else ""
        return self._seconds.get(model)

    def _served(self, exchange: Exchange, seconds: float) -> None:
        model = exchange.model.key if exchange.model is not None else ""
        before = self._seconds.get(model, seconds)
        self._seconds[model] = before + TREND * (seconds - before)
        if len(self._seconds) > MODELS_TIMED:
            del self._seconds[next(iter(self._seconds))]

    def on_free(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever a request that had to wait may find a place now; not more than once a turn."""
        self._listeners.append(callback)

    def on_stale(self, callback: Callable[[Backend], None]) -> None:
        """Call `callback` with a backend of which something is known no longer."""
        self._stale = callback

    def refresh(self, backend: Backend) -> None:
        """Say that what is known of `backend` may not be so any more."""
        self._stale(backend)

    def changed(self) -> None:
        """Say that a slot was given back, a backend came up, or a list of models changed."""
        if self._listeners and not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

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


def _needs_memory(exchange: Exchange) -> bool:
    """Whether the backend must have the model in its memory for this; cloud models run elsewhere."""
    route, model = exchange.route, exchange.model
    return route is not None and route.kind == "inference" and model is not None and not model.cloud


def _residency(backend: Backend, model: str | None) -> Residency:
    if model is None or model in backend.resident:
        return "loaded"
    return "loading" if backend.loading.get(model) else "cold"


def _word_for(error: BaseException | None) -> str | None:
    """Return what `Attempt.error` says of an attempt that ended with `error`."""
    match error:
        case None:
            return None
        case UpstreamAnswer():
            return "busy" if error.busy else "missing" if error.missing else f"status_{error.status}"
        case ProxyError():
            return error.code
    return "cancelled"


def is_failure(error: UpstreamError) -> bool:
    """Whether `error` is a sign that its backend is sick.

    Being full is not (503, maximum pending requests), a model it does not have is not, and a request that took as long
    as one may take in all is not.
    """
    if isinstance(error, UpstreamAnswer):
        return error.status >= 500 and not error.busy
    return not (isinstance(error, UpstreamTimeout) and error.timer == "total")
