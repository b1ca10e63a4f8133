"""The health of a backend: a state machine without I/O and without a clock; the time is passed in.

::

                     request or probe fails                  probes fail, `down_after` in a row
        UP ◀──────────────────────────────▶ SUSPECT ───────────────────────────────────────────▶ DOWN
         ▲   a request succeeds, or a probe        │                                               │
         │   some time after the last failure      │ `eject` (also from UP)                        │ `up_after`
         │                                         ▼                                               │ good probes
         ├───────────────────────────────────── EJECTED, for a time that doubles with every `eject`│
         │  a request on trial succeeds                                                            │
         └─────────────────────────────────────────────────────────────────────────────────────────┘

    The operator sets DRAINING: the backend gets no new requests, in any state.

`proxy.pool.blame` decides which failed requests count, and when they are enough to `eject` a backend.

A suspect gets requests only where no backend is up, so a probe has to clear it; each further failure in a row doubles
the time until a probe may. A backend that comes back gets its full share only after a while (`ramp`), so that the load
does not break it again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

State = Literal["up", "suspect", "down", "ejected", "draining"]

RAMP_START: Final = 0.1
"""The share of its work that a backend gets first when it comes back."""
SUSPICION: Final = 1.0
"""Seconds from a failed request until a probe may clear the backend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When a backend changes its state. Times are seconds, counts are in a row. The policy file alone has defaults.

    Attributes:
        down_after: failed probes that make it down.
        up_after: good probes that bring it up again.
        eject_after: failed requests that eject it.
        eject_for: how long it is ejected the first time; each further ejection in a row doubles that.
        eject_longest: the longest that it is ejected.
        ramp: how long it takes to get its full share again.
    """

    down_after: int
    up_after: int
    eject_after: int
    eject_for: float
    eject_longest: float
    ramp: float


class Health:
    """The state of one backend.

    Attributes:
        state: the state, as drawn above.
        reason: why it is in that state, for the operator.
        since: when it entered that state.
        draining: the operator drains it.
        failures: number of failed requests in a row.
        ejections: number of ejections so far.
        ejected_until: when an ejected backend may get its request on trial.
        probed_at: when the result of the latest probe came.
        left_at: when it was up last, if it ever answered; of interest only while it is not up.
        recovered_at: when it last came back after it was down or ejected, or answered after a failed probe.
        came_back: called when it is up again after it was down or ejected.
    """

    __slots__ = ("_answered", "_back_at", "_bad_probes", "_cleared_at", "_good_probes", "_in_a_row", "_reset_at",
                 "_trial", "came_back", "draining", "ejected_until", "ejections", "failures", "left_at", "probed_at",
                 "reason", "recovered_at", "rules", "since", "state")  # fmt: skip

    def __init__(self, rules: Rules, now: float = 0.0) -> None:
        self.rules = rules
        self.state: State = "up"
        self.reason = "not asked yet"
        self.since = now
        self.draining = False
        self.failures = 0
        self.ejections = 0
        self.ejected_until = 0.0
        self.probed_at = float("-inf")
        self.left_at = float("-inf")
        self.recovered_at = float("-inf")
        self._answered = False  # whether it ever did
        self._in_a_row = 0  # number of ejections in a row
        self._bad_probes = 0
        self._good_probes = 0
        self._cleared_at = float("-inf")  # when a probe may clear a suspect
        self._back_at = float("-inf")
        self._reset_at = float("-inf")  # when `failures` began anew
        self._trial = False
        self.came_back: Callable[[], object] = lambda: None

    # Events

    def probe_succeeded(self, now: float) -> None:
        """Note a good probe. It does not end an ejection: an ejected backend may answer probes all the time."""
        self.probed_at = now
        self._answered = True
        if self._bad_probes:
            self.recovered_at = now
        self._bad_probes = 0
        self._good_probes += 1
        if self.state == "down" and self._good_probes >= self.rules.up_after:
            self._return(now, "answers again")
        elif self.state == "suspect" and now >= self._cleared_at:
            self._become("up", "answers", now)
        elif self.state == "up":
            self.reason = "answers"

    def probe_failed(self, now: float, reason: str) -> None:
        """Note a failed probe."""
        self.probed_at = now
        self._good_probes = 0
        self._bad_probes += 1
        if self._bad_probes >= self.rules.down_after:
            self._become("down", reason, now)
        elif self.state == "up":
            self._become("suspect", reason, now)

    def request_succeeded(self, now: float, began: float) -> None:
        """Note the whole response to a request that `began` then. One from before an ejection does not end it."""
        self._answered = True
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
        """Note a failed request that makes the backend a suspect."""
        self.failures += 1
        if self.state == "ejected":
            return
        self._cleared_at = now + min(SUSPICION * 2 ** min(self.failures - 1, 30), self.rules.eject_for)
        if self.state == "up":
            self._become("suspect", reason, now)

    def absolve(self, now: float, failed_at: float) -> None:
        """Take back a failure of that time that was not the backend's fault, unless a success has done so."""
        if self._reset_at >= failed_at:
            return
        self.failures = max(0, self.failures - 1)
        if self.state == "suspect" and not self.failures and not self._bad_probes:
            self._become("up", "the request was at fault", now)

    def eject(self, now: float, reason: str) -> None:
        """Eject the backend for a while; each time in a row for twice as long."""
        self.ejected_until = now + min(self.rules.eject_for * 2 ** min(self._in_a_row, 30), self.rules.eject_longest)
        self._in_a_row += 1
        self.ejections += 1
        self._trial = False
        self._become("ejected", reason, now)

    # Decisions

    def usable(self, now: float) -> bool:
        """Return whether the backend may get a request; once its ejection is over, it may get one, on trial."""
        if self.draining or self.state == "down":
            return False
        return self.state != "ejected" or (now >= self.ejected_until and not self._trial)

    def try_it(self, now: float) -> bool:
        """Note that the backend gets a request. Return whether that is the trial; `end_trial` must follow it."""
        if self.state == "ejected" and now >= self.ejected_until and not self._trial:
            self._trial = True
            return True
        return False

    def end_trial(self) -> None:
        """Note that the request on trial got its response, or that its client left; another trial may begin."""
        self._trial = False

    def share(self, now: float) -> float:
        """Return the share of its work that the backend gets now, above 0 and up to 1."""
        if now - self._back_at >= self.rules.ramp:
            return 1.0
        return RAMP_START + (1.0 - RAMP_START) * (now - self._back_at) / self.rules.ramp

    @property
    def unanswered(self) -> bool:
        """Whether the latest probe failed."""
        return self._bad_probes > 0

    @property
    def shown(self) -> State:
        """The state to show: `draining` where the operator drains the backend, else `state`."""
        return "draining" if self.draining else self.state

    def _return(self, now: float, reason: str) -> None:
        self._reset(now)
        self._bad_probes = 0
        self._trial = False
        self._back_at = self.recovered_at = now
        self._become("up", reason, now)
        self.came_back()

    def _reset(self, now: float) -> None:
        self.failures = 0
        self._reset_at = now

    def _become(self, state: State, reason: str, now: float) -> None:
        if state != self.state:
            self.since = now
            if self.state == "up" and self._answered:
                self.left_at = now
        self.state = state
        self.reason = reason

    def __repr__(self) -> str:
        return f"<Health {self.shown}: {self.reason}>"
