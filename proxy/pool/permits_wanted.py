"""Find the backends for which a request needs a permit, where proxies share their slots (`proxy.fleet`)."""

import random
from collections.abc import Sequence
from time import monotonic
from typing import Final

from proxy.kernel.exchange import Exchange
from proxy.pool.backend import Asking, Backend
from proxy.pool.candidates import snapshot
from proxy.pool.comebacks import still_tried
from proxy.pool.request_needs import Need
from proxy.pool.selection import Candidate, Choice, choose

MOST: Final = 16
"""Backends that are asked for at most."""
QUESTIONS: Final[tuple[Asking, ...]] = ("room", "line")


def permits_wanted(
    exchange: Exchange,
    need: Need,
    friend: str | None,
    backends: Sequence[Backend],
    *,
    prefer: Sequence[str],
    patience: int | None,
) -> tuple[str, ...]:
    """Return the URLs of the backends that a permit is wanted for, the best first.

    First the one that would be chosen if every free slot could be had; then the one to wait for where all are taken;
    then others that are as good, which have the model in memory if the first has. The arguments are those of
    `snapshot` and `choose`.
    """
    by_name = {backend.name: backend for backend in backends}
    tried = still_tried(exchange, by_name)
    found: dict[str, None] = {}
    now, trial = monotonic(), any(backend.trial_due(need.runner or "") for backend in backends)
    for asking in QUESTIONS:
        candidates = snapshot(backends, need, friend, now, queued=True, trial=trial, asking=asking)
        if exchange.pinned is not None:
            candidates = [each for each in candidates if each.name == exchange.pinned and each.free]
            found.update(dict.fromkeys(each.name for each in candidates))
            continue
        choice = choose(candidates, tried=tried, prefer=prefer, patience=patience, random=random.random)
        if isinstance(choice, Choice):
            found[choice.name] = None
    found.update(dict.fromkeys(_as_good(found, candidates, tried)))
    wanted = [by_name[name] for name in found]
    return tuple(backend.place for backend in wanted if backend.permits is not None)[:MOST]


def _as_good(found: dict[str, None], candidates: Sequence[Candidate], tried: Sequence[str]) -> list[str]:
    """Return the candidates that are as near to having the model in memory as one of `found`."""
    classes = {each.residency for each in candidates if each.name in found}
    return [
        each.name
        for each in candidates
        if each.free and each.usable and each.has_model is not False and each.residency in classes
        if each.name not in tried
    ]
