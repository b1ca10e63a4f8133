"""`defer`: a request that need not be answered now is kept, and runs when a slot is free.

The plugin puts the request into the journal and answers 202. The runner (``proxy/deferred/``) lets it pass the same
chain later, with the caller as `auth` finds him then. This file decides which requests are kept.
"""

from collections.abc import Awaitable
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from middleware.defer.acceptance import Acceptance, Terms
from middleware.defer.background_mode import BackgroundMode
from middleware.defer.preferences import preferences
from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send
from proxy.kernel.background import Background
from proxy.kernel.batch_terms import BatchOptions, BatchTerms
from proxy.kernel.clock import Clock
from proxy.kernel.errors import Refused, let_go
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import DeferPart
from proxy.kernel.explain import Explanation
from proxy.kernel.inner_request import is_inner
from proxy.kernel.journal import Journal
from proxy.kernel.stored_run import stored_run
from proxy.kernel.units import Duration, Least, Size

BUSY: Final = frozenset({
    codes.QUEUE_FULL, codes.QUEUE_TOO_SLOW, codes.QUEUE_TIMEOUT, codes.TENANT_QUEUE_FULL, codes.QUEUE_SHARE_EXCEEDED,
    codes.NO_SLOT,
})  # fmt: skip
"""The refusals that say that all are busy."""
When = Literal["asked", "full", "always"]
Call = tuple[Scope, Receive, Send]


class Defer:
    """Keeps requests that need not be answered now, and answers them `202` with the address of their answer.

    A client asks for it by `Prefer: respond-async`; with `wait=N` beside it, it is served now if its turn comes within
    N seconds. The 202 has `Location: /-/requests/ID`; `GET /-/requests/ID/answer` is the answer, once there is one,
    from any byte, and `DELETE` cancels. Only who sent a request may do so. The journal is in the `store`; in `memory`
    it is gone with the process, and the 202 says so (`durable: false`). A request with an `Idempotency-Key` is kept
    once, however often it is sent. Put the plugin below `auth` and `access` and above `rate_limit` and `queue`, as kept
    requests pass both when they run.

    Args:
        when: `asked`: requests whose client asks; `full`: in addition all that find the queue full or too slow;
            `always`: every inference request.
        priority: the class in which they wait for slots; live requests have 0.
        weight: the tenant's share of the turns among deferred requests.
        keep: how long a request and its answer are kept; one that has not run by then has expired.
        per_identity: open deferred requests that a caller may have.
        total: open deferred requests in all.
        max_body: the largest body that is kept.
        max_answer: the longest answer that is kept; a longer one ends as `failed`.
        batches: the bounds of files and batches (`/v1/files`, `/v1/batches`, `/v1/messages/batches`), for each caller.
    """

    stores_requests: ClassVar = True

    def __init__(
        self,
        app: ASGIApp,
        *,
        journal: Journal,
        clock: Clock,
        background: Background | None = None,
        when: When = "asked",
        priority: Annotated[int, Field(ge=-100, le=100)] = -10,
        weight: Annotated[float, Field(gt=0, le=1000)] = 1.0,
        keep: Annotated[Duration, Least("1m")] = 86400.0,
        per_identity: Annotated[int, Field(ge=1)] = 1000,
        total: Annotated[int, Field(ge=1)] = 10_000,
        max_body: Size = 16 * 1024 * 1024,
        max_answer: Size = 16 * 1024 * 1024,
        batches: BatchOptions = BatchOptions(),  # noqa: B008 (it is frozen)
    ) -> None:
        self.app = app
        self._when = when
        terms = Terms(priority, weight, keep, per_identity, total, max_body, max_answer)
        self._acceptance = Acceptance(journal, clock, terms)
        self._mode = BackgroundMode(self._acceptance, background) if background is not None else None
        self._batches = BatchTerms(batches, priority, weight, per_identity, total, max_body, max_answer)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Keep the request, or pass it on."""
        if scope["type"] == "http":
            exchange = Exchange.of(scope)
            if (run := stored_run(scope)) is not None:
                exchange.part(DeferPart).deferred = run.id
            elif exchange.route is not None and exchange.route.kind == "stored":
                exchange.part(DeferPart).batch_terms = self._batches
            elif exchange.route is not None and exchange.route.kind == "inference" and not is_inner(scope):
                if self._mode is not None and self._mode.concerns(exchange.route):
                    return self._run_or_answer_later(self._mode, exchange, (scope, receive, send))
                return self._answer_later(exchange, (scope, receive, send))
        return self.app(scope, receive, send)

    async def _run_or_answer_later(self, mode: BackgroundMode, exchange: Exchange, call: Call) -> None:
        """Let a request run in the background where its body asks for it."""
        if await mode.asked_for(exchange):
            await mode.begin(exchange, call[2])
        else:
            await self._answer_later(exchange, call)

    def _answer_later(self, exchange: Exchange, call: Call) -> Awaitable[None]:
        """Keep the request where its client or the policy wants it so, or pass it on."""
        wishes = preferences(call[0]["headers"])
        if wishes.respond_async or self._when != "asked":
            return self._keep_or_pass(exchange, wishes.respond_async, wishes.wait, call)
        return self.app(*call)

    async def _keep_or_pass(self, exchange: Exchange, asked: bool, wait: float | None, call: Call) -> None:
        send = call[2]
        if self._when == "always" or (asked and not wait):
            await self._acceptance.accept(exchange, send)
            return
        if asked:
            exchange.part(DeferPart).live_within = wait
        try:
            await self.app(*call)
        except Refused as refused:
            if refused.code not in BUSY or exchange.status is not None:
                raise
            let_go(refused)
            await self._acceptance.accept(exchange, send)

    async def explain(self, exchange: Exchange) -> Explanation:
        """Say whether the request would be kept."""
        route = exchange.route
        if route is None or route.kind != "inference":
            return Explanation("skip", "only inference requests are kept")
        wishes = preferences(exchange.scope["headers"])
        if self._when == "always" or (wishes.respond_async and not wishes.wait):
            return Explanation("wait", "it is kept, answered 202, and runs when a slot is free")
        if wishes.respond_async or self._when == "full":
            return Explanation("pass", "it is kept where its turn does not come in time")
        return Explanation("pass", "its client does not ask to be answered later")
