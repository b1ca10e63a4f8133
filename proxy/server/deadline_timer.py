"""A timer that is stopped where something happens in time."""

import asyncio
from collections.abc import Callable
from typing import Final, Literal

from proxy.kernel import error_codes as codes
from proxy.kernel.errors import Refused


class Deadline:
    """Runs one callback at a time, later, unless stopped before."""

    __slots__ = ("_callback", "_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None
        self._callback: Callable[[], None] | None = None

    @property
    def due(self) -> float | None:
        """Return the time of the loop at which the callback runs; None while there is none."""
        return None if self._handle is None else self._handle.when()

    def start(self, seconds: float, callback: Callable[[], None]) -> None:
        """Run `callback` in `seconds`; a deadline that runs already stays as it is."""
        if self._handle is None:
            self._callback = callback
            self._handle = self._loop.call_later(seconds, self._run)

    def stop(self) -> None:
        """Do not run the callback."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = self._callback = None

    def _run(self) -> None:
        callback = self._callback
        self._handle = self._callback = None
        if callback is not None:
            callback()


_CODES: Final = {"head": codes.HEAD_TIMEOUT, "body": codes.BODY_TIMEOUT, "write": codes.WRITE_TIMEOUT}


def late(what: str, timer: Literal["head", "body", "write"], seconds: float) -> Refused:
    """Return the refusal of a client that missed a deadline.

    Args:
        what: what the client did not do.
        timer: the deadline's name, as the policy file has it under ``server``.
        seconds: how long the client had.
    """
    return Refused(408, f"{what} within {seconds:g} s (timer {timer})", code=_CODES[timer])
