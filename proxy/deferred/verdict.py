"""Decides what becomes of an entry whose run has ended: over, or queued again. Pure functions over plain data."""

from dataclasses import dataclass
from typing import Final

from proxy.kernel.error_codes import FINAL
from proxy.kernel.errors import Outcome
from proxy.kernel.journal import State
from proxy.kernel.passing_errors import NOT_YET

SOON: Final = 1.0
"""Seconds until an entry is begun a second time; then twice as long, and so on."""
LATER: Final = 5.0
"""Seconds until an entry whose turn has not come is tried again, where the error does not say how long."""
LONGEST: Final = 60.0
"""The most seconds until an entry is tried again: what was predicted changes."""
STOPPED: Final = "shutdown: the proxy stopped before the answer was complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended.

    Attributes:
        outcome: the outcome of its request; None where that was never served.
        status: the status of the answer; None before it began.
        code: the code of its error; None for none.
        message: the text of its error.
        retry_after: the seconds that the answer asks to wait; None where it does not.
        recorded: bytes of the answer that are in the record already.
        complete: whether the whole answer was taken.
        stopped: whether this process ended it, as it is about to stop.
        attempts: how often the entry was begun, this run included.
        most_attempts: how often it may be begun.
    """

    outcome: Outcome | None
    status: int | None
    code: str | None = None
    message: str = ""
    retry_after: float | None = None
    recorded: int = 0
    complete: bool = False
    stopped: bool = False
    attempts: int = 1
    most_attempts: int = 1


@dataclass(frozen=True, slots=True)
class Over:
    """The entry is over. What is left of the answer, an error for example, goes into its record."""

    state: State
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """The entry is queued again.

    Attributes:
        after: seconds before which it is not tried.
        counts: whether the run counts as an attempt.
    """

    after: float
    counts: bool


def judge(ended: Ended) -> Over | Again:
    """Return what becomes of the entry.

    Once a byte of an answer is recorded, somebody may have read it, and the entry is not run again: that would begin
    the record anew under its reader.
    """
    if ended.complete and ended.outcome == "completed" and ended.status is not None and ended.status < 400:
        return Over("completed")
    error = f"{ended.code or ended.outcome or 'lost'}: {ended.message or 'the run ended without an answer'}"
    if ended.outcome == "cancelled":
        return Over("cancelled", error)
    if ended.stopped:
        return Over("failed", STOPPED) if ended.recorded else Again(0.0, counts=False)
    if ended.recorded:
        return Over("failed", error)
    if ended.code in NOT_YET:  # it costs no attempt
        return Again(min(LONGEST, ended.retry_after or LATER), counts=False)
    if _is_about_the_request(ended):
        return Over("failed", error)
    if ended.attempts >= ended.most_attempts:
        return Over("dead", error)
    return Again(min(LONGEST, SOON * 2.0 ** (ended.attempts - 1)), counts=True)


def _is_about_the_request(ended: Ended) -> bool:
    """Return whether it would end in the same way again."""
    status = ended.status
    return ended.code in FINAL or status == 501 or (status is not None and 400 <= status < 500 and status != 429)
