"""Which backend: pure functions over a snapshot, so that their tests are tables.

A request goes to a backend that has its model, can be used and was not tried yet. Between several the operator's order
decides (``pool.prefer``); a backend that is much busier than the others loses what it would be preferred for, so that
nothing ever piles up (bounded load). What is left is decided by load, and ties fall at random.
"""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Final, Literal, NamedTuple

from proxy.pool.residency import Residency

Criterion = Literal["resident", "affinity", "least_busy"]

BOUND: Final = 1.25
SLACK: Final = 4.0
"""A backend keeps what it is preferred for while its load is at most BOUND times the mean, and SLACK more: loading a
model elsewhere costs more than waiting behind a few requests."""


class Candidate(NamedTuple):
    """What selection knows of one backend, for one request.

    Attributes:
        load: requests it runs, and failed lately, for its weight.
        step: what one more request adds to that.
        free: whether it has a slot for this request now.
        usable: not down or ejected.
        alive: not down.
        suspect: something failed lately.
        has_model: None where its list is not known.
        residency: whether the model is in its memory, as far as is known.
        affinity: it answered this conversation before.
        slowness: how many times as long as elsewhere its first byte takes.
        loss: what loading the model there would cost others: when the model that it throws out was used last; 0 for one
            that is in memory elsewhere too, -inf where there is room.
    """

    name: str
    load: float = 0.0
    step: float = 1.0
    free: bool = True
    usable: bool = True
    alive: bool = True
    suspect: bool = False
    has_model: bool | None = True
    residency: Residency = "cold"
    affinity: bool = False
    slowness: float = 1.0
    loss: float = -inf


class Choice(NamedTuple):
    """A backend, and why it is this one."""

    name: str
    reason: str


class Wait(NamedTuple):
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
        patience: how many requests, this one included, may still wait for a model where it is warm before it is loaded
            elsewhere too; None where the request cannot wait, and then a full backend that is warm is passed over at
            once.
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
    if last_hope:
        return Choice(min(free, key=lambda one: (not one.alive, one.load, random())).name, "last_hope")
    if patience and "resident" in prefer and _warm_elsewhere(able, free):
        return Wait("warm")
    if len(able) == 1:
        return Choice(able[0].name, "only")
    bound = BOUND * sum([candidate.load for candidate in able]) / len(able) + SLACK
    group: Sequence[Candidate] = [candidate for candidate in free if not candidate.suspect] or free
    reason = None
    for criterion in prefer:
        best, why = _BEST[criterion](group, bound)
        # How warm the model is matters to people even where it decides nothing.
        if len(best) < len(group) or criterion == "resident":
            reason = why if reason is None or (len(best) < len(group) and criterion != "least_busy") else reason
        group = best
    chosen = group[0] if len(group) == 1 else min(group, key=lambda candidate: (_cost(candidate), random()))
    return Choice(chosen.name, reason or "least_busy")


def _able(candidates: Sequence[Candidate], tried: Sequence[str]) -> tuple[Sequence[Candidate], bool]:
    """Return who may be asked, and whether they are a last hope that only beats a certain refusal.

    First those that can be used, have the model and were not tried; then those whose list is not known. One that failed
    is tried again only after those that are ejected and have room. Where nobody can be used it is better to try one
    that has the model than to let one say that there is no such model which simply does not have it. A model that
    nobody lists is asked of anybody.
    """
    sure = [one for one in candidates if one.usable and one.has_model and one.name not in tried]
    if sure:
        return sure, False
    having = [one for one in candidates if one.has_model is not False]
    fresh = [one for one in having if one.usable and one.name not in tried]
    if fresh:
        return fresh, False
    ejected = [one for one in having if one.alive and one.free and one.name not in tried] if tried else []
    if ejected:
        return ejected, True
    usable = [one for one in having or candidates if one.usable]
    if usable:
        return [one for one in usable if one.name not in tried] or usable, False
    hopes = having or candidates
    return [one for one in hopes if one.name not in tried] or hopes, True


def _warm_elsewhere(able: Sequence[Candidate], free: Sequence[Candidate]) -> bool:
    return all(one.residency == "cold" for one in free) and any(
        one.residency != "cold" and not one.suspect for one in able
    )


def _cost(candidate: Candidate) -> float:
    return (candidate.load + candidate.step) * candidate.slowness


def _warmest(group: Sequence[Candidate], bound: float) -> tuple[Sequence[Candidate], str]:
    loaded = [one for one in group if one.residency == "loaded" and one.load <= bound]
    if loaded:
        return loaded, "resident"
    loading = [one for one in group if one.residency == "loading" and one.load <= bound]
    if loading:
        return loading, "loading"
    cold = [one for one in group if one.residency == "cold" and one.load <= bound]
    if not cold:
        return group, "least_busy"
    # A load that must be made is made where it costs the others least.
    least = min([one.loss for one in cold])
    return [one for one in cold if one.loss == least], "cold"


def _friends(group: Sequence[Candidate], bound: float) -> tuple[Sequence[Candidate], str]:
    return [one for one in group if one.affinity and one.load <= bound] or group, "affinity"


def _least_busy(group: Sequence[Candidate], bound: float) -> tuple[Sequence[Candidate], str]:
    least = min(map(_cost, group))
    return [one for one in group if _cost(one) == least], "least_busy"


_BEST: Final[Mapping[Criterion, Callable[[Sequence[Candidate], float], tuple[Sequence[Candidate], str]]]] = {
    "resident": _warmest,
    "affinity": _friends,
    "least_busy": _least_busy,
}
"""For each criterion: those of a group that meet it best, and what that is called."""
