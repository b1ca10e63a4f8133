"""How late the event loop is: what every stream had to wait because something took its time."""

import asyncio
from collections.abc import Callable
from typing import Final

EVERY: Final = 0.5
"""Seconds between two looks."""


class Lag:
    """Looks at how late a timer comes.

    Args:
        observe: is told each time, in seconds.
    """

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look, in the running loop."""
        loop = asyncio.get_running_loop()
        due = loop.time() + EVERY
        self._timer = loop.call_at(due, self._look, loop, due)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._observe(max(0.0, loop.time() - due))
        self.start()
