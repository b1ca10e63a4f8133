"""Which backend: pure functions over plain data, so that their tests are tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """What selection knows of one backend.

    Attributes:
        active: requests it runs for us now.
        weight: its share relative to the others.
        usable: not known to be down.
    """

    name: str
    active: int
    weight: float = 1.0
    usable: bool = True


def least_busy(
    candidates: Sequence[Candidate], tried: Sequence[str], random: Callable[[], float]
) -> tuple[Candidate, str] | None:
    """Return the backend with the least load for its weight, and why; None where there is none at all.

    A backend that this request tried already is taken only when no other is left, one that is down only when all are:
    the last hope beats a certain refusal. Ties fall at random.
    """
    fresh = [candidate for candidate in candidates if candidate.name not in tried]
    pool = [candidate for candidate in fresh if candidate.usable] or fresh
    pool = pool or [candidate for candidate in candidates if candidate.usable] or list(candidates)
    if not pool:
        return None
    if len(pool) == 1:
        return pool[0], "only"
    best = min(pool, key=lambda candidate: ((candidate.active + 1) / candidate.weight, random()))
    return best, "least_busy"
