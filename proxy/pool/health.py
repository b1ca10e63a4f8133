"""Whether a backend can be used: a state machine without I/O and without a clock; the time is passed in.

::

                     request or probe fails                  probes fail, `down_after` in a row
        UP ◀──────────────────────────────▶ SUSPECT ───────────────────────────────────────────▶ DOWN
         ▲   a request succeeds, or a probe        │                                               │
         │   some time after the last failure      │ `eject` (also from UP)                        │ `up_after`
         │                                         ▼                                               │ good probes
         ├───────────────────────────────────── EJECTED, for a time that doubles with every `eject`│
         │  a request on trial succeeds                                                            │
         └─────────────────────────────────────────────────────────────────────────────────────────┘

    DRAINING is the operator's word: no new requests, whatever the rest of this says.

Which failures of requests count, and when they are enough to `eject`, is up to `proxy.pool.blame`.

A suspect is used only behind those that are up, so it is a probe that has to clear it; each further failure in a row
makes that take twice as long. A backend that comes back gets its full share only after a while (`ramp`), so that it is
not knocked over again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

State = Literal["up", "suspect", "down", "ejected", "draining"]

RAMP_START: Final = 0.1
"""The share of its work that a backend gets at first when it comes back."""
SUSPICION: Final = 1.0
"""Seconds from a failed request until a probe may clear its backend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When a backend changes its state. Seconds; counts are in a row. The policy file alone has defaults."""

    down_after: int
    up_after: int
    eject_after: int
    eject_for: float
    eject_longest: float
    ramp: float


class Health:
    """The state of one backend.

    Attributes:
        state: as drawn above.
        reason: what put it into that state, for people.
        since: when that was.
        failures: requests that failed in a row.
        ejections: how many times it was ejected so far.
        ejected_until: when an ejected backend may be given its one request.
        came_back: called when it is up again after it was down or ejected.
    """

    __slots__ = ("_back_at", "_bad_probes", "_cleared_at", "_good_probes", "_in_a_row", "_reset_at", "_trial",
                 "came_back", "draining", "ejected_until", "ejections", "failures", "reason", "rules", "since",
                 "state")  # fmt: skip

    def __init__(self, rules: Rules, now: float = 0.0) -> None:
        self.rules = rules
        self.state: State = "up"
        self.reason = "not asked yet"
        self.since = now
        self.draining = False
        self.failures = 0
        self.ejections = 0
        self.ejected_until = 0.0
        self._in_a_row = 0  # ejections
        self._bad_probes = 0
        self._good_probes = 0
        self._cleared_at = float("-inf")  # when a probe may clear a suspect
        self._back_at = float("-inf")
        self._reset_at = float("-inf")  # when `failures` began anew
        self._trial = False
        self.came_back: Callable[[], object] = lambda: None

    # What happened

    def probe_succeeded(self, now: float) -> None:
        """It answered when asked how it is. An ejected backend does that too, so that alone ends no ejection."""
        self._bad_probes = 0
        self._good_probes += 1
        if self.state == "down" and self._good_probes >= self.rules.up_after:
            self._return(now, "answers again")
        elif self.state == "suspect" and now >= self._cleared_at:
            self._become("up", "answers", now)
        elif self.state == "up":
            self.reason = "answers"

    def probe_failed(self, now: float, reason: str) -> None:
        """It did not answer when it was asked."""
        self._good_probes = 0
        self._bad_probes += 1
        if self._bad_probes >= self.rules.down_after:
            self._become("down", reason, now)
        elif self.state == "up":
            self._become("suspect", reason, now)

    def request_succeeded(self, now: float, began: float) -> None:
        """A request that `began` then got its answer. One from before an ejection says nothing about what follows."""
        if self.state in ("ejected", "down"):
            if began >= self.since:
                self._in_a_row = max(0, self._in_a_row - 1)
                self._return(now, "serves again")
            return
        self._reset(now)
        if self.state == "suspect":
            self._become("up", "serves again", now)
        elif now - self.since > self.rules.eject_longest:
            self._in_a_row = 0

    def request_failed(self, now: float, reason: str) -> None:
        """A request failed, and that is reason enough to suspect it."""
        self.failures += 1
        if self.state == "ejected":
            return
        self._cleared_at = now + min(SUSPICION * 2 ** min(self.failures - 1, 30), self.rules.eject_for)
        if self.state == "up":
            self._become("suspect", reason, now)

    def absolve(self, now: float, failed_at: float) -> None:
        """Take back a failure of that time that was no fault of the backend's, unless a success did so already."""
        if self._reset_at >= failed_at:
            return
        self.failures = max(0, self.failures - 1)
        if self.state == "suspect" and not self.failures and not self._bad_probes:
            self._become("up", "the request was at fault", now)

    def eject(self, now: float, reason: str) -> None:
        """Leave it out for a while; each time in a row twice as long."""
        self.ejected_until = now + min(self.rules.eject_for * 2 ** min(self._in_a_row, 30), self.rules.eject_longest)
        self._in_a_row += 1
        self.ejections += 1
        self._trial = False
        self._become("ejected", reason, now)

    # What follows

    def usable(self, now: float) -> bool:
        """Whether it may be given a request: for an ejected one whose time is up, exactly one."""
        if self.draining or self.state == "down":
            return False
        return self.state != "ejected" or (now >= self.ejected_until and not self._trial)

    def try_it(self, now: float) -> bool:
        """Note that it is given a request; returns whether that is the one on trial, which `end_trial` must follow."""
        if self.state == "ejected" and now >= self.ejected_until and not self._trial:
            self._trial = True
            return True
        return False

    def end_trial(self) -> None:
        """The request on trial has its answer, or ended without one because the client left: another one may go."""
        self._trial = False

    def share(self, now: float) -> float:
        """The part of its work it gets now, above 0 and up to 1."""
        if now - self._back_at >= self.rules.ramp:
            return 1.0
        return RAMP_START + (1.0 - RAMP_START) * (now - self._back_at) / self.rules.ramp

    @property
    def shown(self) -> State:
        """The state for people: the operator's word goes first."""
        return "draining" if self.draining else self.state

    def _return(self, now: float, reason: str) -> None:
        self._reset(now)
        self._bad_probes = 0
        self._trial = False
        self._back_at = now
        self._become("up", reason, now)
        self.came_back()

    def _reset(self, now: float) -> None:
        self.failures = 0
        self._reset_at = now

    def _become(self, state: State, reason: str, now: float) -> None:
        if state != self.state:
            self.since = now
        self.state = state
        self.reason = reason

    def __repr__(self) -> str:
        return f"<Health {self.shown}: {self.reason}>"
