"""Build the candidates for one request from the live state of the backends."""

from collections.abc import Sequence
from math import inf
from typing import Final

from proxy.pool.backend import Asking, Backend
from proxy.pool.request_needs import Need
from proxy.pool.residency import Residency
from proxy.pool.selection import Candidate

COLD: Final[Residency] = "cold"
"""The residency of what runs no model."""


def snapshot(
    backends: Sequence[Backend],
    need: Need,
    friend: str | None,
    now: float,
    *,
    queued: bool = False,
    trial: bool = False,
    asking: Asking | None = None,
) -> list[Candidate]:
    """Return a candidate for every backend that the operator does not drain.

    Args:
        backends: all backends.
        need: what the request needs.
        friend: name of the backend that answered this conversation before, None where none did.
        now: seconds of the monotonic clock.
        queued: the request waits in the queue where no slot is free.
        trial: it may be one more than a backend is known to run at once.
        asking: a backend is free if the fleet could permit the request there, see `Backend.free`.
    """
    model, setup = need.model, need.setup
    runs = need.runner
    slot_of, embeds = need.slot_of, need.embeds
    candidates: list[Candidate] = []
    for backend in backends:
        health = backend.health
        if health.draining:
            continue
        state = health.state
        room = backend.room(now)
        slowness, loss, residency = 1.0, -inf, COLD
        if runs is not None:
            residency = backend.residency.state(runs, setup)
            if backend.slowness:
                slowness = backend.slowness.get(runs, 1.0)
            if residency == "cold":
                loss = _loss(backend, runs, backends)
        candidates.append(
            Candidate(
                name=backend.name,
                load=backend.busy(now) / room,
                step=1.0 / room,
                free=backend.free(slot_of, embeds=embeds, queued=queued, trial=trial, asking=asking),
                usable=state == "up" or health.usable(now),
                alive=state != "down",
                suspect=state == "suspect",
                has_model=backend.has(model),
                residency=residency,
                affinity=backend.name == friend,
                slowness=slowness,
                loss=loss,
            )
        )
    return candidates


def _loss(backend: Backend, model: str, backends: Sequence[Backend]) -> float:
    """Return `Candidate.loss` of a backend that does not have `model` in memory."""
    victim = backend.residency.victim(model)
    if victim is None:
        return -inf
    since = backend.residency.idle_since(victim)
    if since == inf or victim == model:  # in use, or in memory with other options, of which there is no other copy
        return since
    elsewhere = any(victim in other.residency.resident for other in backends if other is not backend)
    return 0.0 if elsewhere else since
