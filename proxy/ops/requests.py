"""One request as a document: what the exchange knows of it now."""

from time import monotonic, time
from typing import Final

from proxy.exchange import Exchange
from proxy.lines import clip, stamp
from proxy.ops.document import Phase, Request
from proxy.pool import Pool

LONGEST: Final = 256
"""Characters of a text that a client or a backend wrote."""
MEASURABLE: Final = 0.2
"""Seconds of an answer before its speed means something."""


def request_of(exchange: Exchange, pool: Pool) -> Request:
    """Return what is known of a request that runs or has just ended; nothing in it is a secret.

    Its path is not in it, only its route: before `auth` has run a path may hold a key.
    """
    now = monotonic()
    until = exchange.ended_at or now
    route, model, usage, error = exchange.route, exchange.model, exchange.usage, exchange.error
    phase = phase_of(exchange, pool)
    began = exchange.first_byte_at
    return Request(
        id=exchange.id,
        state=phase,
        identity=_clipped(exchange.identity),
        tenant=_clipped(exchange.tenant),
        policy=exchange.policy,
        client=exchange.client,
        method=exchange.scope["method"][:16],
        route=None if route is None else route.path,
        model=None if model is None else _clipped(model.short),
        backend=exchange.backend,
        reason=exchange.reason,
        attempts=exchange.attempts,
        generation=exchange.generation,
        started=stamp(time() - (now - exchange.started_at)),
        seconds=_rounded(until - exchange.started_at),
        queued=_rounded(until - exchange.started_at if phase == "queued" else exchange.queued),
        queue_position=exchange.queue_position,
        first_byte=None if began is None else _rounded(began - exchange.started_at),
        chunks=exchange.chunks,
        tokens_in=None if usage is None else usage.tokens_in,
        tokens_out=None if usage is None else usage.tokens_out,
        tokens_per_second=rate_of(exchange, now),
        status=exchange.status,
        outcome=exchange.outcome if phase == "finished" else None,
        error_code=None if error is None else error.code,
        error=None if error is None else clip(error.message, 2 * LONGEST),
    )


def phase_of(exchange: Exchange, pool: Pool) -> Phase:
    """Return how far a request has got."""
    if exchange.ended_at is not None:
        return "finished"
    if exchange.first_byte_at is not None:
        return "answering"
    if exchange.backend is not None:
        backend, model = pool.named(exchange.backend), exchange.model
        loading = backend is not None and model is not None and backend.loading.get(model.key)
        return "loading" if loading else "waiting"
    return "queued" if exchange.ticket is not None and exchange.lease is None else "starting"


def rate_of(exchange: Exchange, now: float) -> float | None:
    """Return tokens per second since the first byte; of an answer in one piece, since it left the queue.

    While it runs they are its chunks but the first, which may hold what the others do not, once there is something to
    measure.
    """
    began, ended, usage = exchange.first_byte_at, exchange.ended_at, exchange.usage
    if began is None:
        return None
    if ended is None:
        seconds = now - began
        return round((exchange.chunks - 1) / seconds, 1) if seconds >= MEASURABLE and exchange.chunks > 1 else None
    if exchange.chunks < 2:
        began = exchange.started_at + exchange.queued
    tokens = exchange.chunks if usage is None else usage.tokens_out
    return round(tokens / (ended - began), 1) if tokens and ended > began else None


def _clipped(text: str | None) -> str | None:
    return None if text is None else clip(text, LONGEST)


def _rounded(seconds: float) -> float:
    return round(seconds, 3)
