"""Measures the lag of the event loop: the time that every stream waited for other work."""

import asyncio
from collections.abc import Callable
from typing import Final

EVERY: Final = 0.5
"""Seconds between two measurements."""


class Lag:
    """Measures how late a timer fires.

    Args:
        observe: is told each time, in seconds.
    """

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start to measure, in the running loop."""
        loop = asyncio.get_running_loop()
        due = loop.time() + EVERY
        self._timer = loop.call_at(due, self._look, loop, due)

    def stop(self) -> None:
        """Stop measuring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._observe(max(0.0, loop.time() - due))
        self.start()
