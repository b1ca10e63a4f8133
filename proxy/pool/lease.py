"""A lease: the right to send one request to one backend. It counts the request, and takes a slot for a model."""

import asyncio
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Self, cast

from proxy.kernel.errors import ClientGone, UpstreamTimeout
from proxy.pool.backend import Backend
from proxy.pool.busy_runners import Departure
from proxy.pool.parallel_runs import Run
from proxy.pool.request_needs import NOTHING, Need


class Lease:
    """The right to send one request to one backend. End it exactly once: use it in `with`, or `give_back` it unused.

    Args:
        backend: the backend that was selected.
        need: what the request needs. A request that runs a model takes a slot, unless it only loads the model; any
            other one is only counted, so that the backend is not closed while it runs.
        reason: why this backend was selected.
        grace: the least seconds for which the slot stays taken when the proxy ended the request before the first byte,
            as the runner of the model is busy with it up to the end of its batch; 0 frees the slot at once.
        grace_at_most: the most seconds; how many it is in between is learned (`proxy.pool.busy_runners`).
        freed: called when the lease has ended and its slot is free.

    Attributes:
        need: what the request needs.
        model: canonical key of the model that the backend runs for the request, None where it runs none.
        served: the response is what was asked for; true until the response begins.
        waited: seconds until the first byte, where they say how fast the backend is; else None.
        cold: the model is not in memory, as far as known; decides which time-out the first byte gets.
        trial: it is the one request that an ejected backend gets.
        began: when the lease was taken, seconds of the monotonic clock.
    """

    __slots__ = ("_answered", "_before", "_freed", "_grace", "_grace_at_most", "_left", "_run", "backend", "began",
                 "cold", "model", "need", "reason", "served", "trial", "waited")  # fmt: skip

    def __init__(
        self,
        backend: Backend,
        need: Need = NOTHING,
        *,
        reason: str | None = None,
        grace: float = 0.0,
        grace_at_most: float = 0.0,
        freed: Callable[["Lease"], None],
    ) -> None:
        now = monotonic()
        self.backend = backend
        self.reason = reason
        self.began = now
        self.trial = backend.health.try_it(now)
        self.cold = False
        self.need = need
        self.model = need.runner
        self._grace = grace
        self._grace_at_most = grace_at_most
        self._freed = freed
        self._answered = False
        self._left = False
        self.served = True
        self.waited: float | None = None
        self._run: Run | None = None
        self._before: Departure | None = None  # the client that left the slot which this request gets
        backend.leases += 1
        if self.model is not None:
            state = backend.residency.began(self.model, need.setup, now, slot=need.only is None)
            self.cold = state != "loaded"
            if need.only is None:
                backend.slot_taken()
                if need.embeds:
                    backend.embedding[self.model] += 1
                self._run = backend.parallel.began(self.model, now, state)
                self._before = backend.busy_runners.sent(self.model)

    def first_byte(self, *, served: bool = True, streamed: bool = True) -> None:
        """Note that the response has begun.

        Args:
            served: the response is what was asked for, not an error.
            streamed: the response is sent as it is made, so that the time to its first byte says how fast the backend
                is, and when it began to run.
        """
        backend, model = self.backend, self.model
        self._answered = True
        self.served = served
        if self.trial:
            backend.health.end_trial()  # the backend answers; the rest of the response may take an hour
        if served and model is not None:
            now = monotonic()
            run, before = self._run, self._before
            if run is not None:
                run.runs.answered(run, now, streamed=streamed)
            if streamed or self.need.only == "load":  # the answer to a load is that the model is loaded
                self.waited = now - self.began
                if run is not None and not self.cold and (before is None or not self._was_late(model, before, now)):
                    backend.waited(model, self.waited, now)
            backend.residency.answered(model)

    def _was_late(self, model: str, before: Departure, now: float) -> bool:
        """Return whether the runner was busy with a request whose client had left, and learn how long that takes."""
        busy, usual = self.backend.busy_runners, self.backend.first_bytes.get(model)
        if usual is None:
            return False
        return busy.answered(model, before, sent_at=self.began, now=now, usual=usual, most=self._grace_at_most)

    @property
    def held(self) -> float:
        """Seconds since the lease was taken."""
        return monotonic() - self.began

    def give_back(self) -> None:
        """End a lease that was not used."""
        if not self._left:
            self._left = True
            self._free()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._left:
            return
        self._left = True
        if self._grace > 0 and self._run is not None and not self._answered and _hung_up(error):
            self._hold_back(self._run)
        else:
            self._free()

    def _hold_back(self, run: Run) -> None:
        """Free the slot when the runner is likely to be free."""
        backend, model, now = self.backend, cast(str, self.model), monotonic()
        run.runs.left(run)
        seconds = self._grace
        if not self.cold or model in backend.resident:  # else Ollama stops to load the model
            seconds = backend.busy_runners.hold(
                model,
                running=now - self.began,
                usual=backend.first_bytes.get(model),
                least=self._grace,
                most=self._grace_at_most,
            )
        asyncio.get_running_loop().call_later(seconds, self._free_again, model, now)

    def _free_again(self, model: str, left_at: float) -> None:
        self.backend.busy_runners.freed(model, Departure(left_at, monotonic()))
        self._free()

    def _free(self) -> None:
        backend, run = self.backend, self._run
        if self.trial and not self._answered:
            backend.health.end_trial()
        if self.model is not None:
            now = monotonic()
            if run is not None:
                self._run = None
                backend.slot_freed()
                if self.need.embeds:
                    backend.embedding[self.model] -= 1
                    if not backend.embedding[self.model]:
                        del backend.embedding[self.model]
                backend.parallel.ended(self.model, run, now)
            backend.residency.ended(self.model, now, slot=self.need.only is None)
        backend.leases -= 1
        self._freed(self)

    def __repr__(self) -> str:
        return f"<Lease of {self.backend.name} for {self.model}{' (left)' if self._left else ''}>"


def _hung_up(error: BaseException | None) -> bool:
    """Return whether the proxy ended the request, so that the backend does not know of it yet."""
    if isinstance(error, UpstreamTimeout):
        return error.sent
    return isinstance(error, asyncio.CancelledError | ClientGone)
