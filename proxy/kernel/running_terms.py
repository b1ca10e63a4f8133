"""The terms on which a process runs entries of the journal; the plugin that accepts them sets them."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunningTerms:
    """How entries are run.

    Attributes:
        attempts: how often an entry may be begun at most; an entry itself may say less.
        parallel: entries that one process runs at a time, however many slots are free.
    """

    attempts: int
    parallel: int


def joined(terms: Iterable[RunningTerms]) -> RunningTerms | None:
    """Return terms that allow what any of these allows; None where there are none."""
    found = list(terms)
    if not found:
        return None
    return RunningTerms(max(each.attempts for each in found), max(each.parallel for each in found))
