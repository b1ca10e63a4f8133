"""The document of one request, made from its exchange."""

from time import monotonic, time
from typing import Final

from proxy.kernel.caller_text import masked_error, masked_text, model_of
from proxy.kernel.exchange import Exchange
from proxy.kernel.log_lines import clip, stamp
from proxy.ops.document_types import Phase, Request
from proxy.pool.pool import Pool

LONGEST: Final = 256
"""The most characters that are shown of a text that a client or a backend wrote."""
MEASURABLE: Final = 0.2
"""Seconds that an answer must have run before its speed is shown."""


class Facts:
    """The facts of a request that are kept after its end. They are few, and quick to copy.

    They hold the request's route and not its path: before `auth` has run, a path may hold a key. They hold the text of
    its error and not the error: that would keep the stack frames that it passed through alive, and the body with them.
    """

    __slots__ = ("attempts", "backend", "chunks", "client", "ended_at", "error", "error_code", "first_byte_at",
                 "generation", "id", "identity", "method", "model", "outcome", "policy", "queue_position", "queued",
                 "reason", "route", "started_at", "status", "tenant", "usage")  # fmt: skip

    def __init__(self, exchange: Exchange) -> None:
        self.id = exchange.id
        self.identity = exchange.identity
        self.tenant = exchange.tenant
        self.policy = exchange.policy
        self.client = exchange.client
        self.method: str = exchange.scope["method"]
        self.route = exchange.route
        self.model = model_of(exchange)
        self.backend = exchange.backend
        self.reason = exchange.reason
        self.attempts = exchange.attempts
        self.generation = exchange.generation
        self.started_at = exchange.started_at
        self.first_byte_at = exchange.first_byte_at
        self.ended_at = exchange.ended_at
        self.queued = exchange.queued
        self.queue_position = exchange.queue_position
        self.chunks = exchange.chunks
        self.usage = exchange.usage
        self.status = exchange.status
        self.outcome = exchange.outcome
        self.error = None if exchange.error is None else exchange.error.message
        self.error_code = exchange.error_code


def request_of(exchange: Exchange, pool: Pool) -> Request:
    """Return the document of a request that runs; it holds no secret."""
    return _told(Facts(exchange), phase_of(exchange, pool))


def past(facts: Facts) -> Request:
    """Return the document of a request that has ended."""
    return _told(facts, "finished")


def _told(facts: Facts, phase: Phase) -> Request:
    now = monotonic()
    until = facts.ended_at or now
    model, usage, began = facts.model, facts.usage, facts.first_byte_at
    return Request(
        id=facts.id,
        state=phase,
        identity=_clipped(facts.identity),
        tenant=_clipped(facts.tenant),
        policy=facts.policy,
        client=facts.client,
        method=masked_text(facts.method, 16),
        route=None if facts.route is None else facts.route.path,
        model=_clipped(model),
        backend=facts.backend,
        reason=facts.reason,
        attempts=facts.attempts,
        generation=facts.generation,
        started=stamp(time() - (now - facts.started_at)),
        seconds=_rounded(until - facts.started_at),
        queued=_rounded(until - facts.started_at if phase == "queued" else facts.queued),
        queue_position=facts.queue_position,
        first_byte=None if began is None else _rounded(began - facts.started_at),
        chunks=facts.chunks,
        tokens_in=None if usage is None else usage.tokens_in,
        tokens_out=None if usage is None else usage.tokens_out,
        tokens_per_second=rate_of(facts, now),
        status=facts.status,
        outcome=facts.outcome if phase == "finished" else None,
        error_code=facts.error_code,
        error=None if facts.error is None else masked_error(facts.error, 2 * LONGEST),
    )


def phase_of(exchange: Exchange, pool: Pool) -> Phase:
    """Return the phase that a request is in."""
    if exchange.ended_at is not None:
        return "finished"
    if exchange.first_byte_at is not None:
        return "answering"
    if exchange.backend is not None:
        backend, model = pool.named(exchange.backend), exchange.model
        loading = backend is not None and model is not None and backend.loading.get(model.key)
        return "loading" if loading else "waiting"
    return "queued" if exchange.ticket is not None and exchange.lease is None else "starting"


def rate_of(exchange: Exchange | Facts, now: float) -> float | None:
    """Return tokens per second since the first byte; for an answer in one chunk, since the request left the queue.

    While the request runs, each chunk counts as one token. The first chunk is left out, as it may hold more than the
    others. Returns None before there is enough to measure.
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
