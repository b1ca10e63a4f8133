"""Judge a storm: which requests count, and how many of them succeeded. Pure functions over what the clients saw."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.storm.strikes import Interval


class Seen(NamedTuple):
    """One request as its client saw it; `end` is ``whole``, ``cut``, ``failed`` or ``false``."""

    path: str
    began: float
    ended: float
    end: str
    why: str


@dataclass(slots=True)
class Verdict:
    """What became of the requests of a storm.

    Attributes:
        requests: all of them.
        counted: those that had a well host all the while.
        whole: counted ones that were answered to the end.
        cut: counted ones whose answer began and honestly broke off.
        failed: counted ones without an answer, or with an error.
        false: answers that look whole and are not, counted or not.
        slowest: the longest that a counted one took that was answered, seconds.
        reasons: why the counted ones failed.
    """

    requests: int = 0
    counted: int = 0
    whole: int = 0
    cut: int = 0
    failed: int = 0
    false: int = 0
    slowest: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """The share of the counted requests that did not fail, of those whose answer did not break off."""
        return self.whole / max(1, self.whole + self.failed)

    def __str__(self) -> str:
        first = (
            f"{self.share:.4f} succeeded: {self.whole} whole, {self.failed} failed, {self.cut} cut and seen to be, of "
            f"{self.counted} with a well host all the while ({self.requests} in all); {self.false} false successes; "
            f"the slowest took {self.slowest:.1f} s"
        )
        return "\n".join([first, *(f"  {number} x {why}" for why, number in self.reasons.most_common(5))])


def judge(seen: Sequence[Seen], sick: Sequence[Sequence[Interval]]) -> Verdict:
    """Return the verdict on the requests, given when each host was not well."""
    verdict = Verdict(requests=len(seen))
    for one in seen:
        verdict.false += one.end == "false"
        if not any(is_well(intervals, one.began, one.ended) for intervals in sick):
            continue
        verdict.counted += 1
        if one.end == "whole":
            verdict.whole += 1
            verdict.slowest = max(verdict.slowest, one.ended - one.began)
        elif one.end == "cut":
            verdict.cut += 1
        else:
            verdict.failed += 1
            verdict.reasons[f"{one.path} after {one.ended - one.began:.0f} s: {one.why}"] += 1
    return verdict


def is_well(sick: Sequence[Interval], began: float, ended: float) -> bool:
    """Return whether a host was well all the time from `began` to `ended`."""
    return not any(start < ended and began < end for start, end in sick)
