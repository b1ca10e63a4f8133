"""`retry`: tries a request again that failed before its first byte, if that can do no harm.

A retry is another run of the inner app before the commit point, so no response is ever held back for it. The table in
``middleware/retry/verdicts.py`` decides what may be repeated, and where. When no attempt is left for the requested
model, a fallback model may replace it. For embeddings, two backends may be asked at once.
"""

import asyncio
import random
from collections.abc import Awaitable, Mapping
from time import monotonic
from typing import Annotated, Final

import structlog
from pydantic import BaseModel, ConfigDict, Field

from middleware.retry.fallback import Fallbacks, stand_in, withdraw
from middleware.retry.hedge import hedged
from middleware.retry.verdicts import Verdict, free_of_charge, most_telling, verdict, why_not
from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send
from proxy.kernel.attempts import broken
from proxy.kernel.backends import Backends
from proxy.kernel.caller_text import masked_error, masked_text
from proxy.kernel.errors import UpstreamAnswer, UpstreamError, let_go
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import RetryPart
from proxy.kernel.explain import Explanation
from proxy.kernel.model_names import ModelName
from proxy.kernel.retry_budget import RetryBudget
from proxy.kernel.route import Route
from proxy.kernel.units import Duration, DurationOrZero, Least, Percent

log = structlog.get_logger("ollama_proxy.retry")

_FROZEN: Final = ConfigDict(extra="forbid", frozen=True)


_HOPELESS: Final = frozenset({"not_repeatable", "content_error", "lost_twice", "budget_spent"})
"""Reasons to give up for which a fallback model would not help, or may not be tried."""


class Backoff(BaseModel):
    """How long to wait when no other backend is left: a random time up to `base`, doubled with every retry."""

    model_config = _FROZEN

    base: Annotated[DurationOrZero, Field(description="The longest wait before the first retry; `0s` for none.")] = 0.2
    max: Annotated[DurationOrZero, Field(description="The longest wait before any retry; `0s` for none.")] = 5.0

    def delay(self, retries: int) -> float:
        """Return the seconds to wait before retry number `retries` (from 1), with full jitter."""
        return random.uniform(0, min(self.max, self.base * 2 ** (retries - 1)))


class Hedge(BaseModel):
    """When to ask a second backend."""

    model_config = _FROZEN

    after: Annotated[Duration, Field(description="How long the first backend may take to answer.")]


class Retry:
    """Tries a request again that failed before its first byte, on another backend if there is one.

    Args:
        attempts: how many times a request is tried for a model, the first time included.
        budget: retries allowed, as a share of all requests of this process, to protect a failing pool from more load;
            `0%` allows none.
        backoff: how long to wait when no other backend is left; `{base: 200ms, max: 5s}`.
        patience: how long a request waits in all for a backend to come back, when no other is left and one went away
            no longer ago than that; never beyond the caller's `X-Request-Timeout`. `0s` for not at all.
        first_byte: how long one attempt may take to its first byte while another backend is left to try; by default
            `pool.timeouts.first_byte`. A model that must be loaded first gets its time.
        fallback: models to use when no attempt is left for the requested one, the best first, by model:
            `{"llama3.3:70b": ["llama3.1:8b"]}`. The answer's header `X-Ollama-Proxy-Model` names the model that is
            used. An outer `access` has checked the requested model only.
        hedge: ask a second backend for embeddings that take long, and use the first answer; `{after: 200ms}`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        backends: Backends,
        retries: RetryBudget,
        attempts: Annotated[int, Field(ge=1, le=10)] = 3,
        budget: Percent = 0.2,
        backoff: Backoff = Backoff(),  # noqa: B008 (it is frozen)
        patience: DurationOrZero = 10.0,
        first_byte: Annotated[Duration, Least("10ms")] | None = None,
        fallback: Mapping[str, list[str]] | None = None,
        hedge: Hedge | None = None,
    ) -> None:
        self.app = app
        self._backends = backends
        self._retries = retries
        self._attempts = attempts
        self._budget = budget
        self._backoff = backoff
        self._patience = patience
        self._first_byte = first_byte
        self._fallbacks = Fallbacks(fallback or {})
        self._hedge = hedge
        self._idle = attempts == 1 and not fallback and hedge is None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass on unchanged what cannot be repeated; run everything else in the retry loop."""
        if scope["type"] == "http":
            exchange = Exchange.of(scope)
            route = exchange.route
            if route is not None and route.body != "raw" and not self._idle:
                return self._repeat(exchange, route, scope, receive, send)
        return self.app(scope, receive, send)

    async def _repeat(self, exchange: Exchange, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        await exchange.body()  # The exchange keeps the body, so every attempt can read it.
        noted = exchange.part(RetryPart)
        noted.hurry, noted.resend = self._first_byte, True
        caller = exchange.caller
        others = list(self._fallbacks.of(exchange))
        if others and not self._backends.serves(exchange):
            await self._fall_back(exchange, others)
        errors: list[UpstreamError] = []
        first = 0  # index of the first error about the current model
        self._retries.earn(self._budget, caller)
        try:
            while True:
                try:
                    return await self._try(exchange, route, scope, receive, send)
                except UpstreamError as error:
                    if exchange.committed or exchange.status is not None:
                        raise
                    errors.append(error)
                stand_ins = any(self._backends.serves(exchange, other) for other in others)
                delay = await self._next(exchange, route, errors, first, patient=not stand_ins)
                if delay is None:
                    if exchange.gave_up == "suspected_poison":
                        withdraw(exchange)
                        raise errors[-1]
                    if exchange.gave_up in _HOPELESS or not await self._fall_back(exchange, others, paid=False):
                        withdraw(exchange)
                        raise most_telling(errors)
                    first = len(errors)
                elif delay > 0:
                    await asyncio.sleep(delay)
                exchange.rewind()
        finally:
            self._retries.done(caller)
            for failed in errors:
                let_go(failed)
            errors.clear()

    def _try(self, exchange: Exchange, route: Route, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if self._hedge is None or route.kind != "inference" or route.repeat != "safe":
            return self.app(scope, receive, send)
        return hedged(
            self.app,
            scope,
            receive,
            send,
            after=self._hedge.after,
            again=lambda: (
                not broken(exchange.failed)
                and self._backends.untried(exchange)
                and self._retries.spend(exchange.caller)
            ),
        )

    async def _next(
        self, exchange: Exchange, route: Route, all_: list[UpstreamError], first: int, *, patient: bool
    ) -> float | None:
        """Return the seconds to wait before the next attempt. If there is none, note why and return None.

        `first` is the index of the first error about the current model. If `patient`, wait for a backend to come back
        where no other one is left.
        """
        error, errors, free = all_[-1], all_[first:], free_of_charge(all_)
        where = verdict(route.repeat, errors)
        spent = sum(one not in free for one in errors) >= self._attempts
        untried = self._backends.untried(exchange, ejected=True)
        full = isinstance(error, UpstreamAnswer) and error.busy  # it is there, and asked again after a while
        if patient and not (untried or spent or full or where is Verdict.NO or error in free):
            untried = await self._comeback(exchange)
        if where is Verdict.NO or (where is Verdict.ELSEWHERE and not untried):
            exchange.part(RetryPart).gave_up = why_not(errors) if where is Verdict.NO else "no_other_backend"
        elif spent:
            exchange.part(RetryPart).gave_up = "attempts_spent"
        elif error not in free and not self._retries.spend(exchange.caller):
            exchange.part(RetryPart).gave_up = "budget_spent"
        else:
            delay = 0.0 if untried or error in free else self._backoff.delay(len(errors))
            log.info(
                "retry", request_id=exchange.id, backend=error.backend, error=masked_error(error.detail), delay_s=delay
            )
            return delay
        return None

    async def _comeback(self, exchange: Exchange) -> bool:
        """Wait for a backend to come back, as long as the patience and the caller's deadline allow."""
        noted, began = exchange.part(RetryPart), monotonic()
        left = self._patience - exchange.patience
        if exchange.deadline is not None:
            left = min(left, exchange.deadline - began)
        if left <= 0:
            return False
        try:
            return await self._backends.comeback(exchange, left)
        finally:
            noted.patience += monotonic() - began

    async def _fall_back(self, exchange: Exchange, others: list[ModelName], *, paid: bool = True) -> bool:
        """Switch to the next of `others` that a backend has; return False if there is none, or no retry budget."""
        while others:
            other = others.pop(0)
            if not self._backends.serves(exchange, other):
                continue
            if not paid and not self._retries.spend(exchange.caller):
                exchange.part(RetryPart).gave_up = "budget_spent"
                return False
            asked = exchange.model
            if not await stand_in(exchange, other):
                return False
            exchange.part(RetryPart).gave_up = None
            log.info(
                "fallback", request_id=exchange.id, model_asked=asked and masked_text(asked.short), model=other.short
            )
            return True
        return False

    async def explain(self, exchange: Exchange) -> Explanation:
        """Explain what would be tried. A fallback that replaces the model at once does so for the inner plugins."""
        route = exchange.route
        if route is None or route.body == "raw" or self._idle:
            return Explanation("skip", "it is sent once, whatever happens")
        await exchange.body()
        asked, others = exchange.model, list(self._fallbacks.of(exchange))
        absent = asked is not None and bool(others) and not self._backends.serves(exchange)
        if asked is not None and absent and await self._fall_back(exchange, others):
            other = exchange.model or asked
            return Explanation("change", f"no backend has {asked.short} now: {other.short} stands in for it")
        if route.repeat == "never":
            return Explanation("pass", "sent again only if no byte of it has reached a backend")
        names = ", ".join(other.short for other in others)
        after = f", then {names} in its place" if names else ""
        return Explanation("pass", f"tried up to {self._attempts} times before its first byte{after}")
