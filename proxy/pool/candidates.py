"""How the backends look to selection, for one request."""

from collections.abc import Sequence
from math import inf

from proxy.pool.backend import Backend
from proxy.pool.request_needs import Need
from proxy.pool.selection import Candidate


def snapshot(backends: Sequence[Backend], need: Need, friend: str | None, now: float) -> list[Candidate]:
    """Return the candidates for a request: all backends but those that the operator drains.

    Args:
        backends: all.
        need: what the request needs.
        friend: the backend that answered its conversation before.
        now: seconds of the monotonic clock.
    """
    model, setup = need.model, need.setup
    runs = model if need.runs else None
    candidates: list[Candidate] = []
    for backend in backends:
        health, memory = backend.health, backend.residency
        if health.draining:
            continue
        room = backend.room(now)
        residency = memory.state(runs, setup) if runs is not None else "cold"
        candidates.append(
            Candidate(
                backend.name,
                backend.busy(now) / room,
                1.0 / room,
                backend.free(runs),
                health.usable(now),
                health.state != "down",
                health.state == "suspect",
                backend.has(model),
                residency,
                backend.name == friend,
                backend.slowness.get(runs, 1.0) if runs is not None else 1.0,
                _loss(backend, runs, backends) if runs is not None and residency == "cold" else -inf,
            )
        )
    return candidates


def _loss(backend: Backend, model: str, backends: Sequence[Backend]) -> float:
    """Return `Candidate.loss` of a backend where `model` is cold."""
    victim = backend.residency.victim(model)
    if victim is None:
        return -inf
    since = backend.residency.idle_since(victim)
    if since == inf or victim == model:  # in use; or in another setup, of which there is no other copy
        return since
    elsewhere = any(victim in other.residency.resident for other in backends if other is not backend)
    return 0.0 if elsewhere else since
