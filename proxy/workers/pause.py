"""The pause before a worker that is gone is replaced: it grows while workers go soon after they came."""

from typing import Final

SHORTEST: Final = 0.1
LONGEST: Final = 30.0
CALM: Final = 60.0
"""Seconds after which a worker has lived long enough for the next pause to be the shortest."""


class Pause:
    """The pauses of one worker's successors."""

    def __init__(self) -> None:
        self._next = SHORTEST

    def after(self, lived: float) -> float:
        """Return the seconds to wait, after a worker that lived so many seconds; each one is twice the one before."""
        if lived >= CALM:
            self._next = SHORTEST
        pause = self._next
        self._next = min(LONGEST, 2 * pause)
        return pause

    def __repr__(self) -> str:
        return f"<Pause, next {self._next:g} s>"
