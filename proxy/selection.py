"""Which backend: pure functions over a snapshot, so that their tests are tables.

A request goes to a backend that has its model, can be used and was not tried yet. Between several the operator's order
decides (``pool.prefer``); a backend that is much busier than the others loses what it would be preferred for, so that
nothing ever piles up (bounded load). What is left is decided by load, and ties fall at random.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Criterion = Literal["resident", "affinity", "least_busy"]
Residency = Literal["loaded", "loading", "cold"]

BOUND: Final = 1.25
SLACK: Final = 4.0
"""A backend keeps what it is preferred for while its load is at most BOUND times the mean, and SLACK more: loading a
model elsewhere costs more than waiting behind a few requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What selection knows of one backend, for one request.

    Attributes:
        load: requests it runs, and failed lately, for its weight.
        free: whether it has a slot for this request now.
        usable: not down, ejected or drained.
        suspect: something failed lately.
        has_model: None where its list is not known.
        residency: whether the model is in its memory, as far as is known.
        affinity: it answered this conversation before.
        speed: how long its first bytes take, relative to the others; 1 is the mean.
        victim: when the model that a load would evict there was used last; -inf where there is room.
    """

    name: str
    load: float = 0.0
    free: bool = True
    usable: bool = True
    suspect: bool = False
    has_model: bool | None = True
    residency: Residency = "cold"
    affinity: bool = False
    speed: float = 1.0
    victim: float = float("-inf")


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend, and why it is this one."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nobody now, and why: waiting is better."""

    reason: str


def choose(
    candidates: Sequence[Candidate],
    *,
    tried: Sequence[str] = (),
    prefer: Sequence[Criterion] = ("resident", "affinity", "least_busy"),
    patience: int | None = None,
    random: Callable[[], float],
) -> Choice | Wait | None:
    """Return where a request goes.

    Args:
        candidates: all backends that it could be sent to at all.
        tried: those it was sent to already; none of them is taken while another can be used.
        prefer: what decides, the most important first.
        patience: how many more requests may wait for a model where it is warm before it is loaded elsewhere too; None
            where the request cannot wait, and then a full backend that is warm is passed over at once.
        random: returns a number from 0 to 1, for ties.

    Returns:
        A choice; Wait where all that could serve it are full, or where the model is warm and worth waiting for; None
        where there is no backend at all.
    """
    able, last_hope = _able(candidates, tried)
    if not able:
        return None
    free = [candidate for candidate in able if candidate.free]
    if not free:
        return Wait("slots")
    if patience is not None and patience > 0 and "resident" in prefer and _warm_elsewhere(able, free):
        return Wait("warm")
    if last_hope:
        return Choice(min(free, key=lambda candidate: (candidate.load, random())).name, "last_hope")
    bound = BOUND * sum(candidate.load for candidate in able) / len(able) + SLACK
    best = min(free, key=lambda candidate: (*_rank(candidate, prefer, bound), random()))
    return Choice(best.name, "only" if len(able) == 1 else _reason(best, prefer, bound))


def _able(candidates: Sequence[Candidate], tried: Sequence[str]) -> tuple[list[Candidate], bool]:
    """Return who may be asked: those with the model first, then those that can be used, then those not tried.

    The flag says that none of them can be used: the last hope beats a certain refusal.
    """
    known = [candidate for candidate in candidates if candidate.usable and candidate.has_model is not False]
    usable = known or [candidate for candidate in candidates if candidate.usable]
    sure = [candidate for candidate in usable if candidate.has_model]
    fresh = _fresh(sure, tried) or _fresh(usable, tried) or usable
    if fresh:
        return [candidate for candidate in fresh if not candidate.suspect] or fresh, False
    hopes = [candidate for candidate in candidates if candidate.has_model is not False] or list(candidates)
    return _fresh(hopes, tried) or hopes, True


def _fresh(candidates: Sequence[Candidate], tried: Sequence[str]) -> list[Candidate]:
    return [candidate for candidate in candidates if candidate.name not in tried]


def _warm_elsewhere(able: Sequence[Candidate], free: Sequence[Candidate]) -> bool:
    return all(candidate.residency == "cold" for candidate in free) and any(
        candidate.residency != "cold" for candidate in able
    )


def _rank(candidate: Candidate, prefer: Sequence[Criterion], bound: float) -> tuple[float, ...]:
    """Return what to compare candidates by; smaller is better."""
    bounded = candidate.load <= bound
    rank: list[float] = []
    for criterion in prefer:
        if criterion == "resident":
            # A load that must be made is made where it costs the others least.
            warmth = ("loaded", "loading", "cold").index(candidate.residency) if bounded else 3
            rank += [warmth, candidate.victim if warmth > 1 else 0.0]
        elif criterion == "affinity":
            rank.append(0.0 if candidate.affinity and bounded else 1.0)
        else:
            rank.append(candidate.load * candidate.speed)
    return (*rank, candidate.load * candidate.speed)


def _reason(best: Candidate, prefer: Sequence[Criterion], bound: float) -> str:
    if best.load > bound:
        return "least_busy"
    cold = False
    for criterion in prefer:
        if criterion == "resident":
            if best.residency != "cold":
                return "resident" if best.residency == "loaded" else "loading"
            cold = True
        elif criterion == "affinity" and best.affinity:
            return "affinity"
        elif criterion == "least_busy":
            break
    return "cold" if cold else "least_busy"
