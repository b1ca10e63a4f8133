"""A lease: the right to send one request to one backend, and what comes of it."""

import asyncio
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Self

from proxy.kernel.errors import ClientGone, UpstreamTimeout
from proxy.pool.backend import Backend
from proxy.pool.request_needs import NOTHING, Need


class Lease:
    """One request's place at one backend. Leave it exactly once: as a context manager, or by `give_back` if unused.

    Args:
        backend: where.
        need: what for. Only what runs a model takes a slot; anything else is counted, so that the backend is not closed
            under it.
        reason: why this backend.
        grace: seconds a slot is held back when we hung up before the first byte: the runner notices only at its next
            token.
        freed: called when the slot is free again.

    Attributes:
        need: what it was taken for.
        model: canonical key of the model that is run for it, None where none is.
        served: what came is what was asked for, or nothing came yet.
        waited: seconds until its first byte, where that says how fast the backend is.
        cold: the model has to be loaded first, as far as is known; decides which timer the first byte gets.
        trial: it is the one request that an ejected backend is given.
        began: when it was taken, seconds of the monotonic clock.
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
        if self.model is not None:
            backend.active += 1
            self.cold = backend.residency.state(self.model, need.setup) != "loaded"
            backend.residency.began(self.model, need.setup, now)

    def first_byte(self, *, served: bool = True, streamed: bool = True) -> None:
        """Note that the answer has begun.

        Args:
            served: it is what was asked for, not an error.
            streamed: it comes as it is made, so that the time to its first byte says something.
        """
        backend, model = self.backend, self.model
        self._answered = True
        self.served = served
        if self.trial:
            backend.health.end_trial()  # it answers, and this answer may go on for an hour
        if served and model is not None:
            if streamed:
                now = monotonic()
                self.waited = now - self.began
                if not self.cold:
                    backend.waited(model, self.waited, now)
            backend.residency.answered(model)

    @property
    def held(self) -> float:
        """Seconds since it was taken."""
        return monotonic() - self.began

    def give_back(self) -> None:
        """Give up a lease that was never used."""
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
        if self._grace > 0 and self.model is not None and not self._answered and _hung_up(error):
            asyncio.get_running_loop().call_later(self._grace, self._free)
        else:
            self._free()

    def _free(self) -> None:
        backend = self.backend
        if self.trial and not self._answered:
            backend.health.end_trial()
        if self.model is not None:
            backend.active -= 1
            backend.residency.ended(self.model, monotonic())
        backend.leases -= 1
        self._freed(self)

    def __repr__(self) -> str:
        return f"<Lease of {self.backend.name} for {self.model}{' (left)' if self._left else ''}>"


def _hung_up(error: BaseException | None) -> bool:
    """Whether it was us who ended the request, so that the backend does not know of it yet."""
    if isinstance(error, UpstreamTimeout):
        return error.sent
    return isinstance(error, asyncio.CancelledError | ClientGone)
