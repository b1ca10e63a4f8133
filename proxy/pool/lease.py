"""A lease: the right to send one request to one backend. It counts the request, and takes a slot for a model."""

import asyncio
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Self

from proxy.kernel.errors import ClientGone, UpstreamTimeout
from proxy.pool.backend import Backend
from proxy.pool.request_needs import NOTHING, Need


class Lease:
    """The right to send one request to one backend. End it exactly once: use it in `with`, or `give_back` it unused.

    Args:
        backend: the backend that was selected.
        need: what the request needs. A request that runs a model takes a slot, unless it only loads the model; any
            other one is only counted, so that the backend is not closed while it runs.
        reason: why this backend was selected.
        grace: seconds for which the slot stays taken when the proxy ended the request before the first byte, as the
            runner of the model notices that only at its next token.
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

    __slots__ = ("_answered", "_freed", "_grace", "_left", "backend", "began", "cold", "model", "need", "reason",
                 "served", "trial", "waited")  # fmt: skip

    def __init__(
        self,
        backend: Backend,
        need: Need = NOTHING,
        *,
        reason: str | None = None,
        grace: float = 0.0,
        freed: Callable[["Lease"], None],
    ) -> None:
        now = monotonic()
        self.backend = backend
        self.reason = reason
        self.began = now
        self.trial = backend.health.try_it(now)
        self.cold = False
        self.need = need
        self.model = need.model if need.runs else None
        self._grace = grace
        self._freed = freed
        self._answered = False
        self._left = False
        self.served = True
        self.waited: float | None = None
        backend.leases += 1
        if need.slot_of is not None:
            backend.active += 1
        if self.model is not None:
            self.cold = backend.residency.state(self.model, need.setup) != "loaded"
            backend.residency.began(self.model, need.setup, now, slot=need.only is None)

    def first_byte(self, *, served: bool = True, streamed: bool = True) -> None:
        """Note that the response has begun.

        Args:
            served: the response is what was asked for, not an error.
            streamed: the response is streamed, so that the time to its first byte says how fast the backend is.
        """
        backend, model = self.backend, self.model
        self._answered = True
        self.served = served
        if self.trial:
            backend.health.end_trial()  # the backend answers; the rest of the response may take an hour
        if served and model is not None:
            if streamed or self.need.only == "load":  # the answer to a load is that the model is loaded
                now = monotonic()
                self.waited = now - self.began
                if not self.cold and self.need.only is None:
                    backend.waited(model, self.waited, now)
            backend.residency.answered(model)

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
        if self._grace > 0 and self.need.slot_of is not None and not self._answered and _hung_up(error):
            asyncio.get_running_loop().call_later(self._grace, self._free)
        else:
            self._free()

    def _free(self) -> None:
        backend = self.backend
        if self.trial and not self._answered:
            backend.health.end_trial()
        if self.need.slot_of is not None:
            backend.active -= 1
        if self.model is not None:
            backend.residency.ended(self.model, monotonic(), slot=self.need.only is None)
        backend.leases -= 1
        self._freed(self)

    def __repr__(self) -> str:
        return f"<Lease of {self.backend.name} for {self.model}{' (left)' if self._left else ''}>"


def _hung_up(error: BaseException | None) -> bool:
    """Return whether the proxy ended the request, so that the backend does not know of it yet."""
    if isinstance(error, UpstreamTimeout):
        return error.sent
    return isinstance(error, asyncio.CancelledError | ClientGone)
