"""A lease: the right to send one request to one backend, and what comes of it."""

import asyncio
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Self

from proxy.backend import Backend
from proxy.errors import ClientGone


class Lease:
    """One slot of one backend. Leave it exactly once: as a context manager, or by `give_back` where it was not used.

    Attributes:
        model: canonical key of the model that the backend needs in its memory for this; None where it needs none.
        cold: it had to be loaded first, as far as was known; decides which timer the first byte gets.
    """

    __slots__ = ("_answered", "_freed", "_grace", "_left", "_started", "backend", "cold", "model")

    def __init__(self, backend: Backend, model: str | None, *, grace: float, freed: Callable[["Lease"], None]) -> None:
        self.backend = backend
        self.model = model
        self.cold = model is not None and model not in backend.resident
        self._grace = grace
        self._freed = freed
        self._started = monotonic()
        self._answered = False
        self._left = False
        backend.active += 1
        backend.health.try_it(self._started)
        if model is not None:
            backend.began(model, self._started)

    def first_byte(self) -> None:
        """Note that the answer has begun."""
        self._answered = True
        if self.model is not None:
            if not self.cold:
                self.backend.waited(monotonic() - self._started)
            self.backend.answered(self.model)

    @property
    def held(self) -> float:
        """Seconds since it was taken."""
        return monotonic() - self._started

    def give_back(self) -> None:
        """Give up a lease that was never used."""
        if not self._left:
            self._left = True
            self.backend.health.give_up_trial()
            self._free()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._left:
            return
        self._left = True
        if isinstance(error, asyncio.CancelledError | ClientGone) and not self._answered and self._grace > 0:
            # The runner notices a vanished client only at its next token: its slot is not free before.
            asyncio.get_running_loop().call_later(self._grace, self._free)
        else:
            self._free()

    def _free(self) -> None:
        if self.model is not None:
            self.backend.ended(self.model)
        self.backend.active -= 1
        self._freed(self)

    def __repr__(self) -> str:
        return f"<Lease of {self.backend.name} for {self.model}{' (left)' if self._left else ''}>"
