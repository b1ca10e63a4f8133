"""`retry`: what failed before its first byte is tried again, where that can do no harm.

A retry is another run of the app below, before the commit point: no response is ever held back for it. What may be
repeated is decided by `verdict`, a pure function of the route and the failure:

============================================  ===================  ===================  ======================
the backend                                   safe                 costly               never
============================================  ===================  ===================  ======================
got nothing of the request                    anywhere             anywhere             anywhere
closed the connection without an answer       anywhere             anywhere once,       no
                                                                   then elsewhere
is full (503, maximum pending requests)       anywhere             anywhere             no
answered 502, 503 or 504                      anywhere             anywhere             no
answered 500, or 404 for a model it had       elsewhere            elsewhere            no
answered junk                                 elsewhere            elsewhere            no
was too slow (load, first byte, write)        elsewhere            elsewhere            no
let the time for the whole request run out    no                   no                   no
broke off an answer that had begun            no                   no                   no
============================================  ===================  ===================  ======================

*Safe* are GET, HEAD, show and embed; *costly* are generate and chat, which cost time; *never* are pull, push, create,
copy and delete. *Anywhere* means: at once on a backend that was not tried yet, else after a back-off; *elsewhere* only
the former. A blob is never repeated: its bytes are gone.
"""

import asyncio
import random
from collections.abc import Awaitable, Sequence
from enum import Enum
from typing import Annotated, Final

import structlog
from pydantic import BaseModel, ConfigDict, Field

from proxy.asgi import ASGIApp, Receive, Scope, Send
from proxy.errors import (
    BadAnswer,
    ConnectFailed,
    ConnectionLost,
    Truncated,
    UpstreamAnswer,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.exchange import Exchange
from proxy.routes import Repeat, Route
from proxy.services import Backends, RetryBudget
from proxy.units import Duration, Percent

log = structlog.get_logger("ollama_proxy.retry")


class Verdict(Enum):
    """Where a failed request may go next."""

    NO = "no"
    ELSEWHERE = "elsewhere"
    ANYWHERE = "anywhere"


_GATEWAY_ERRORS: Final = frozenset({502, 503, 504})
_SLOW: Final = frozenset({"load", "first_byte", "write"})


def verdict(repeat: Repeat, errors: Sequence[UpstreamError]) -> Verdict:
    """Return where a request whose route says `repeat` may go after `errors`, the latest last; the table is above."""
    error = errors[-1]
    if isinstance(error, Truncated) or (isinstance(error, UpstreamTimeout) and error.timer == "total"):
        return Verdict.NO
    if not error.sent and not error.received:
        return Verdict.ANYWHERE
    if repeat == "never":
        return Verdict.NO
    match error:
        case ConnectionLost():
            # A prompt may be what kills the backend. The one that died of it twice is spared the third time.
            lost = sum(isinstance(earlier, ConnectionLost) for earlier in errors)
            return Verdict.ELSEWHERE if repeat == "costly" and lost > 1 else Verdict.ANYWHERE
        case UpstreamAnswer():
            if error.busy or error.status in _GATEWAY_ERRORS:
                return Verdict.ANYWHERE
            return Verdict.ELSEWHERE if error.missing or error.status == 500 else Verdict.NO
        case UpstreamTimeout():
            return Verdict.ELSEWHERE if error.timer in _SLOW else Verdict.NO
        case BadAnswer():
            return Verdict.ELSEWHERE
    return Verdict.NO


def most_telling(errors: Sequence[UpstreamError]) -> UpstreamError:
    """Return the error that tells the caller most; of equals the latest.

    A backend's own words come first, "I do not have this model" last: another one was believed to have it.
    """
    return max(reversed(errors), key=_weight)


def _weight(error: UpstreamError) -> int:
    if isinstance(error, UpstreamAnswer):
        return 0 if error.missing else 2 if error.busy else 4
    return 1 if isinstance(error, ConnectFailed) else 3


class Backoff(BaseModel):
    """How long to wait where no other backend is left: a random time up to `base`, doubled with every retry."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: Annotated[Duration, Field(description="The longest wait before the first retry.")] = 0.2
    max: Annotated[Duration, Field(description="The longest wait before any retry.")] = 5.0

    def delay(self, retries: int) -> float:
        """Return the seconds to wait before retry number `retries` (from 1), with full jitter."""
        return random.uniform(0, min(self.max, self.base * 2 ** (retries - 1)))


class Retry:
    """Tries a request again that failed before its first byte, on another backend where there is one.

    Args:
        attempts: how many times a request is tried in all, the first time included.
        budget: retries allowed, as a share of all requests of this process, so that a dead pool is not hammered.
        backoff: how long to wait where no other backend is left; `{base: 200ms, max: 5s}`.
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
    ) -> None:
        self.app = app
        self._backends = backends
        self._retries = retries
        self._attempts = attempts
        self._budget = budget
        self._backoff = backoff

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass on what cannot be repeated as it is; everything else runs in the loop below."""
        if scope["type"] == "http":
            exchange = Exchange.of(scope)
            route = exchange.route
            if route is not None and route.body != "raw" and self._attempts > 1:
                return self._repeat(exchange, route, scope, receive, send)
        return self.app(scope, receive, send)

    async def _repeat(self, exchange: Exchange, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        await exchange.body()  # Read by the exchange, it can be handed out again.
        self._retries.earn(self._budget)
        errors: list[UpstreamError] = []
        try:
            while True:
                try:
                    return await self.app(scope, receive, send)
                except UpstreamError as error:
                    if exchange.committed or exchange.status is not None:
                        raise
                    errors.append(error)
                delay = self._next(exchange, route, errors)
                if delay is None:
                    raise most_telling(errors)
                if delay > 0:
                    await asyncio.sleep(delay)
                exchange.rewind()
        finally:
            errors.clear()  # Their tracebacks name this frame: the request's body would stay until the next collection.

    def _next(self, exchange: Exchange, route: Route, errors: list[UpstreamError]) -> float | None:
        """Return the seconds to wait before the next attempt, or None where this was the last, and note why."""
        error = errors[-1]
        where = verdict(route.repeat, errors)
        untried = self._backends.untried(exchange)
        if where is Verdict.NO or (where is Verdict.ELSEWHERE and not untried):
            exchange.gave_up = "not_repeatable" if where is Verdict.NO else "no_other_backend"
        elif len(errors) >= self._attempts:
            exchange.gave_up = "attempts_spent"
        elif not self._retries.spend():
            exchange.gave_up = "budget_spent"
        else:
            delay = 0.0 if untried else self._backoff.delay(len(errors))
            log.info("retry", request_id=exchange.id, backend=error.backend, error=error.message, delay_s=delay)
            return delay
        return None
