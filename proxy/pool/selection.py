"""Select a backend for a request: pure functions over plain data, so that their tests are tables.

A request goes to a backend that has its model, is usable and was not tried yet. Where several are left, the selection
strategies decide in the operator's order (``pool.prefer``). A backend that is much busier than the others loses what it
would be preferred for, so that requests never pile up on one backend (bounded load). Load decides what the strategies
leave open, and chance decides a tie.

To add a strategy, write a function of the type `Strategy`, add it to `STRATEGIES` below, and describe it in
``proxy/kernel/selection_strategies.py``, by which the policy file is checked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, NamedTuple

from proxy.kernel.selection_strategies import DEFAULT_ORDER
from proxy.pool.residency import Residency

BOUND: Final = 1.25
SLACK: Final = 4.0
"""A backend keeps what it is preferred for while its load is at most BOUND times the mean, plus SLACK: to load a model
elsewhere costs more than to wait behind a few requests."""


@dataclass(slots=True, kw_only=True)
class Candidate:
    """The state of one backend, seen from one request.

    Attributes:
        name: the name of the backend.
        load: running requests plus recent failures, divided by the weight.
        step: how much one more request adds to `load`.
        free: the backend has a free slot for this request.
        usable: the backend is neither down nor ejected.
        alive: the backend is not down.
        suspect: a request or a probe failed recently.
        has_model: the backend lists the model; None where its list is unknown.
        residency: whether the model is in the backend's memory, as far as known.
        affinity: the backend answered this conversation before.
        slowness: time to the first byte, as a multiple of the mean of all backends.
        loss: what loading the model here would cost other requests: the time of the last use of the model that would be
            evicted; 0 where another backend has that model too, -inf where nothing would be evicted.
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
    """The selected backend, and the reason, as the log field `reason` shows it."""

    name: str
    reason: str


class Wait(NamedTuple):
    """No backend is selected now; the request had better wait: for a free slot, or for one where the model is warm."""

    reason: str


Strategy = Callable[[Sequence[Candidate], float], tuple[Sequence[Candidate], str]]
"""Takes the candidates that are left, and the load up to which a candidate may be preferred. Returns those that the
strategy prefers, or all where it has no preference, and the reason to log where it decided."""


def choose(
    candidates: Sequence[Candidate],
    *,
    tried: Sequence[str] = (),
    prefer: Sequence[str] = DEFAULT_ORDER,
    patience: int | None = None,
    random: Callable[[], float],
) -> Choice | Wait | None:
    """Select the backend for a request.

    Args:
        candidates: all backends that may get the request.
        tried: names of the backends that got the request before; none of them is selected while another is usable.
        prefer: names of the strategies, the most important first.
        patience: how many requests, this one included, may still wait for a backend that has the model in memory before
            another backend loads it too. None where the request cannot wait: then a full backend is passed over.
        random: returns a number from 0 to 1, to decide ties.

    Returns:
        A choice; Wait where every backend that could serve the request is full, or where the model is warm on a full
        backend that is worth waiting for; None where there is no backend at all.
    """
    able, last_hope = _able(candidates, tried)
    if not able:
        return None
    free = [candidate for candidate in able if candidate.free]
    if not free:
        return Wait("slots")
    if last_hope:
        return Choice(min(free, key=lambda one: (not one.alive, one.load, random())).name, "last_hope")
    if patience and "resident" in prefer and _is_warm_elsewhere(able, free):
        return Wait("warm")
    if len(able) == 1:
        return Choice(able[0].name, "only")
    bound = BOUND * sum([candidate.load for candidate in able]) / len(able) + SLACK
    group: Sequence[Candidate] = [candidate for candidate in free if not candidate.suspect] or free
    reason = None
    for name in prefer:
        if len(group) == 1 and name != "resident":
            continue
        preferred, why = STRATEGIES[name](group, bound)
        decided = len(preferred) < len(group)
        # Log how warm the model is even where that decided nothing; load replaces no other reason.
        if (decided or name == "resident") and (reason is None or (decided and name != "least_busy")):
            reason = why
        group = preferred
    chosen = group[0] if len(group) == 1 else min(group, key=lambda candidate: (_cost(candidate), random()))
    return Choice(chosen.name, reason or "least_busy")


def _able(candidates: Sequence[Candidate], tried: Sequence[str]) -> tuple[Sequence[Candidate], bool]:
    """Return the candidates that may get the request, and whether they are a last hope.

    In this order, the first group that is not empty:

    1. usable, has the model, not tried;
    2. usable, may have the model (its list is unknown), not tried;
    3. after a failed try: ejected, has room, not tried (a last hope);
    4. usable, but tried already;
    5. down (a last hope).

    A backend without the model is asked only where no backend lists the model, as otherwise it would answer *no such
    model* while another backend has it.
    """
    sure = [one for one in candidates if one.usable and one.has_model]
    if tried:
        sure = [one for one in sure if one.name not in tried]
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


def _is_warm_elsewhere(able: Sequence[Candidate], free: Sequence[Candidate]) -> bool:
    """Return whether the model is cold on every free backend, but warm on a full one that is no suspect."""
    return all(one.residency == "cold" for one in free) and any(
        one.residency != "cold" and not one.suspect for one in able
    )


def _cost(candidate: Candidate) -> float:
    """Return the load with this request on top, multiplied by the slowness."""
    return (candidate.load + candidate.step) * candidate.slowness


# The strategies


def resident(group: Sequence[Candidate], bound: float) -> tuple[Sequence[Candidate], str]:
    """Prefer backends that have the model in memory, then those that load it, then those where a load costs least."""
    loaded = [one for one in group if one.residency == "loaded" and one.load <= bound]
    if loaded:
        return loaded, "resident"
    loading = [one for one in group if one.residency == "loading" and one.load <= bound]
    if loading:
        return loading, "loading"
    cold = [one for one in group if one.residency == "cold" and one.load <= bound]
    if not cold:
        return group, "least_busy"
    least = min([one.loss for one in cold])
    return [one for one in cold if one.loss == least], "cold"


def affinity(group: Sequence[Candidate], bound: float) -> tuple[Sequence[Candidate], str]:
    """Prefer the backend that answered this conversation before."""
    return [one for one in group if one.affinity and one.load <= bound] or group, "affinity"


def least_busy(group: Sequence[Candidate], bound: float) -> tuple[Sequence[Candidate], str]:
    """Prefer the backends with the least load for their weight and speed."""
    costs = [_cost(one) for one in group]
    least = min(costs)
    return [one for one, cost in zip(group, costs, strict=True) if cost == least], "least_busy"


STRATEGIES: Final[Mapping[str, Strategy]] = {
    "resident": resident,
    "affinity": affinity,
    "least_busy": least_busy,
}
"""The function of each strategy, by its name in the policy file."""
