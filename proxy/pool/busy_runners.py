"""Busy runners: how long the runner of a model stays busy with a request whose client left before its answer began.

Ollama notices a closed connection between two batches. While it generates that is at once; while it reads a prompt it
is after the batch at hand, which takes seconds where the machine is slow. Nothing says when. But the next request that
is sent there does: where its answer begins much later than usual, the runner was busy until about then; where it does
not, the slot was free in time, or too late.

So the slot of a request that left is held for as long as was learned by model, and before anything was learned for as
long as the answer to that request would usually have taken to begin. All times are seconds.
"""

from typing import Final, NamedTuple

from proxy.pool.moving_averages import MovingAverages

REMEMBERED: Final = 100
"""Models by which times are remembered."""
LATE: Final = 2.0
"""An answer that takes more than this many times as long as usual to begin is late."""
SOON: Final = 2.0
"""A request that is sent later than this many holds, or usual times to an answer, says nothing about the runner."""
SHRINK: Final = 0.5
"""The share of the time until the next request that is noted where its answer was not late."""


class Departure(NamedTuple):
    """A client that left, and whose slot is free again.

    Attributes:
        left_at: when it left.
        freed_at: when the slot was given back.
    """

    left_at: float
    freed_at: float


class BusyRunners:
    """The runners of one backend, by canonical key of the model."""

    __slots__ = ("_departures", "_times")

    def __init__(self) -> None:
        self._times = MovingAverages(REMEMBERED)
        self._departures: dict[str, Departure] = {}  # the last one, where no request was sent since

    def expected(self, model: str) -> float | None:
        """Return how long the runner of `model` is busy after a client left, as learned; None before that."""
        return self._times.get(model)

    def hold(self, model: str, *, running: float, usual: float | None, least: float, most: float) -> float:
        """Return for how long to hold the slot of a request whose client left.

        Args:
            model: canonical key of the model.
            running: how long the request has run.
            usual: how long an answer by the model usually takes to begin; None if unknown.
            least: the shortest time to hold a slot.
            most: the longest one.
        """
        expected = self.expected(model)
        if expected is None:
            expected = usual - running if usual is not None else least
        return max(least, min(most, expected))

    def freed(self, model: str, departure: Departure) -> None:
        """Note that the slot of a request whose client left is free again."""
        self._departures[model] = departure
        if len(self._departures) > REMEMBERED:
            del self._departures[next(iter(self._departures))]

    def sent(self, model: str) -> Departure | None:
        """Return the client that had left the slot of a request that is sent now; None where there was none."""
        return self._departures.pop(model, None) if self._departures else None

    def answered(self, model: str, before: Departure, *, sent_at: float, now: float, usual: float, most: float) -> bool:
        """Learn from the answer to the next request, which begins now; return whether the runner was still busy.

        Args:
            model: canonical key of the model.
            before: the client that had left, as `sent` returned it.
            sent_at: when the next request was sent.
            now: the time.
            usual: how long an answer by the model usually takes to begin.
            most: the longest time to hold a slot.
        """
        idle, held = sent_at - before.left_at, before.freed_at - before.left_at
        if idle > SOON * max(held, usual):
            return False
        if now - sent_at > LATE * usual:
            self._times.note(model, min(most, now - usual - before.left_at), now)
            return True
        known = self.expected(model)
        if known is not None:
            self._times.note(model, min(known, SHRINK * idle), now)
        return False
