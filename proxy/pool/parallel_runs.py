"""Parallel runs: how many requests of one model a backend runs at once, learned from when their answers begin and end.

Ollama runs a fixed number of requests for each model in its memory (``OLLAMA_NUM_PARALLEL``, one for some kinds of
model) and says it nowhere. What comes on top waits inside it, in the order in which it came. From that follows:

- Of the requests that were sent before one whose answer begins now, all that are not over run beside it. So do those
  whose answers began. That many at least run at once: the *level*.
- A request waited inside the backend where others, sent before it, ran to their end before its answer began, none that
  was sent after it was answered sooner, and from the last of these ends to its answer it took about as long as it takes
  a request that does not wait: not much less, and much less than it took in all. Where that happens again and again,
  the level is all that runs at once.
- A request whose answer begins before any other one ended did not wait: so many as there are do run at once.

An answer in one piece begins where it ends: it can show that more run at once, never that one waited.

A limit that is too low heals: now and then one request more than the limit is sent, the next in line. It loses nothing
by that, as it would have been next in any case; and if its answer begins beside the others, the limit rises. When to do
that is counted in answers, as a second is long for one model and short for another.
"""

from math import inf
from typing import Final

from proxy.pool.moving_averages import moved_average
from proxy.pool.residency import Residency

ENOUGH: Final = 6
"""Requests in a row that must have waited before a limit is set, and twice as many before it is lowered."""
SOON: Final = 0.5
"""The share of the time to its answer in which a request that waited may have run."""
TOO_SOON: Final = 0.5
"""The share of the usual time to an answer in which no request can have run that was to be answered then."""
LONGEST: Final = 32
"""The largest number of answers between two trials of one more than the limit."""
FARTHEST: Final = 1000
"""Requests that are counted at most where an answer begins."""
REMEMBERED: Final = 100
"""Models whose limit is remembered while none of their requests run."""


class Run:
    """One request that was sent.

    Attributes:
        runs: the requests of the same model.
        number: its place in the order of sending.
        sent_at: when it was sent, seconds.
        ends: answers that had ended by then.
        residency: whether the model was in memory by then, as far as known. A request that has it loaded with other
            options waits for that, and says nothing.
        trial: it was one more than the limit when it was sent.
        answered: its answer has begun.
        streamed: so that the beginning of its answer says when it began to run.
        left: its client left before its answer began.
    """

    __slots__ = ("answered", "ends", "left", "number", "residency", "runs", "sent_at", "streamed", "trial")

    def __init__(
        self, runs: "ParallelRuns", number: int, sent_at: float, ends: int, residency: Residency, *, trial: bool
    ) -> None:
        self.runs = runs
        self.number = number
        self.sent_at = sent_at
        self.ends = ends
        self.residency = residency
        self.trial = trial
        self.answered = self.streamed = self.left = False


class ParallelRuns:
    """The requests of one model that one backend has, and how many of them it runs at once.

    Attributes:
        limit: how many it runs at once; None before that was learned.
    """

    __slots__ = ("_answering", "_ended_at", "_ends", "_left", "_newest", "_number", "_patience", "_pause", "_runs",
                 "_seen", "_trial", "_usual", "_waited", "limit")  # fmt: skip

    def __init__(self) -> None:
        self.limit: int | None = None
        self._runs: dict[int, Run] = {}  # by number, in the order of sending
        self._number = 0
        self._newest = 0  # the last sent of those that were answered
        self._answering = 0  # streams that have begun
        self._left = 0  # runs whose client left before its answer began
        self._ends = 0  # answers that have ended
        self._ended_at = 0.0  # when the last of them did
        self._usual: float | None = None  # seconds until an answer begins to a request that runs at once
        self._waited = 0  # requests that waited, in a row
        self._seen = 0  # the highest level meanwhile
        self._trial: Run | None = None  # the one whose answer has not begun
        self._pause = 0  # answers until the next trial
        self._patience = 1  # answers until the next trial after one that fails

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def room(self) -> bool:
        """Whether one more runs at once, as far as known."""
        return self.limit is None or len(self._runs) < self.limit

    @property
    def trial_due(self) -> bool:
        """Whether one more than the limit may be sent, to find out whether it runs."""
        return len(self._runs) == self.limit and not (self._pause or self._trial or self._left)

    def doubt(self) -> None:
        """Note that the backend may run another number at once now, as it loads the model anew: try that soon."""
        self._pause, self._patience = 0, 1

    def began(self, now: float, residency: Residency) -> Run:
        """Note that a request is sent; `residency`: see `Run`."""
        self._number += 1
        run = Run(self, self._number, now, self._ends, residency, trial=not self.room)
        self._runs[run.number] = run
        if run.trial:
            self._trial = run
        return run

    def answered(self, run: Run, now: float, *, streamed: bool) -> None:
        """Note that the answer to `run` begins."""
        waited = self._has_waited(run, now)
        run.answered, run.streamed = True, streamed
        if run.number > self._newest:
            self._newest = run.number
        self._answering += streamed
        if self._trial is run:
            self._trial = None
        if streamed and run.residency == "loaded" and run.ends == self._ends:
            self._usual = moved_average(self._usual, now - run.sent_at)
        level = max(self._answering, self._before(run) + 1)
        if self.limit is not None and level > self.limit:
            self._set(level)
            return
        if run.trial:
            self._patience = min(LONGEST, 2 * self._patience) if waited else self._patience
            self._pause = self._patience
        if streamed:
            self._judge(level, waited)

    def left(self, run: Run) -> None:
        """Note that the client of `run` left before its answer began, and that the backend may run it still."""
        run.left = True
        self._left += 1

    def ended(self, run: Run, now: float) -> None:
        """Note that the backend does not run `run` any more."""
        del self._runs[run.number]
        self._left -= run.left
        if self._trial is run:
            self._trial = None
        if run.answered:
            self._answering -= run.streamed
            self._ends += 1
            self._ended_at = now
            if self._pause:
                self._pause -= 1

    def _before(self, run: Run) -> int:
        """Return how many requests that were sent before `run` are not over."""
        before = 0
        for number in self._runs:
            if number == run.number or before == FARTHEST:
                break
            before += 1
        return before

    def _has_waited(self, run: Run, now: float) -> bool | None:
        """Return whether `run`, whose answer begins now, waited inside the backend; None where that cannot be told."""
        if run.ends == self._ends or self._newest > run.number:
            return False
        since, least = now - self._ended_at, TOO_SOON * (self._usual or 0.0)
        late = least <= since <= SOON * (now - run.sent_at)
        return True if late and run.residency != "cold" else None

    def _judge(self, level: int, waited: bool | None) -> None:
        """Lower the limit where requests waited again and again."""
        if level > self._seen:
            self._seen = level
        if waited:
            self._waited += 1
        elif waited is False and level > 1:
            self._waited = self._seen = 0  # it ran beside others at once
        if self._waited >= (ENOUGH if self.limit is None else 2 * ENOUGH):
            if self._seen < (self.limit or inf):
                self._set(self._seen)
            self._waited = self._seen = 0

    def _set(self, limit: int) -> None:
        self.limit = limit
        self._waited = self._seen = 0
        self.doubt()


class ParallelRunsByModel:
    """The parallel runs of one backend, by canonical key of the model."""

    __slots__ = ("_models",)

    def __init__(self) -> None:
        self._models: dict[str, ParallelRuns] = {}

    def of(self, model: str) -> ParallelRuns | None:
        """Return the runs of `model`; None where none run and nothing was learned."""
        return self._models.get(model)

    def began(self, model: str, now: float, residency: Residency) -> Run:
        """Note that a request is sent, to a backend that has `model` in memory, loads it or does not have it there."""
        runs = self._models.get(model)
        if runs is None:
            runs = self._models[model] = ParallelRuns()
        if residency == "cold":
            runs.doubt()
        return runs.began(now, residency)

    def ended(self, model: str, run: Run, now: float) -> None:
        """Note that a request is over; forget the model where nothing was learned of it: clients can name anything."""
        runs = run.runs
        runs.ended(run, now)
        if runs.limit is None and not runs:
            del self._models[model]
        elif len(self._models) > REMEMBERED:
            idle = next((key for key, one in self._models.items() if not one), None)
            if idle is not None:
                del self._models[idle]
