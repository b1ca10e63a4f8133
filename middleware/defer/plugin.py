"""`defer`: a request that cannot run now, or whose client does not want to wait, is kept and runs when a slot is free.

The client gets 202 and the address of its answer. `proxy.kernel.acceptance` makes the entry, and ``proxy/deferred/``
runs it: it passes the whole chain again, this plugin included, which then only passes it on.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from middleware.defer.answering import Answering
from middleware.defer.background_mode import asked_for, in_background, may_ask
from middleware.defer.deferrable import deferrable, plain_body
from proxy.kernel.acceptance import DeferTerms, add_entry, entry_of, known_entry, stored_caller_of
from proxy.kernel.asgi import ASGIApp, Header, Receive, Scope, Send
from proxy.kernel.background import Background
from proxy.kernel.batch_terms import BatchOptions, BatchTerms, set_batch_terms
from proxy.kernel.clock import Clock
from proxy.kernel.entry_document import address_of, receipt
from proxy.kernel.errors import Refused, let_go
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import DeferPart
from proxy.kernel.explain import Explanation
from proxy.kernel.journal import Entry, Journal
from proxy.kernel.passing_errors import NO_ROOM
from proxy.kernel.preferences import Preferences, idempotency_key, preferences
from proxy.kernel.route import Route
from proxy.kernel.running_terms import RunningTerms
from proxy.kernel.stored_request_handler import send_json
from proxy.kernel.stored_run import stored_run
from proxy.kernel.token_estimate import Estimate
from proxy.kernel.units import Duration, Least, Size, format_duration
from proxy.kernel.webhook_options import WebhookOptions
from proxy.kernel.webhooks import Webhooks, webhook_meta

Occasion = Literal["asked", "full", "asked_and_full"]

PRIORITIES: Final = {"low": -1, "normal": 0, "high": 1}


class Defer:
    """Keeps requests that cannot run now, or whose clients do not want to wait, and runs them when a slot is free.

    A client asks for it by `Prefer: respond-async`, and gets 202 with the address of its answer, `/-/requests/ID`. With
    `Prefer: respond-async, wait=N` it is answered at once where its turn comes within N seconds. With an
    `Idempotency-Key` the same request is accepted once, however often it is sent. It runs below all live requests,
    with the permissions and limits that its caller has then. Requests and answers are in the home of `store`: with
    `memory` they are gone with the process. Put it below `auth` and `access`, and above `rate_limit` and `queue`.

    Args:
        when: the occasions on which a request is kept: `asked`, its client asks for it; `full`, it would be refused
            as the queue is full or too slow; `asked_and_full`, both. Any of those listed is enough; with none,
            nothing is kept.
        priority: the priority of kept requests in the queue and among each other, as in `queue`; `0` is that of
            a live request, and the default is below `low`.
        keep: how long a request is kept, and its answer, counted from when it was accepted.
        wait: how long it may wait for its turn; if left out, as long as it is kept.
        attempts: how often it is begun at most, where its backend or its proxy fails.
        per_identity: requests of one caller that may wait or run.
        total: requests that may wait or run in all.
        max_body: the largest request that is kept.
        max_answer: the longest answer that is kept.
        weight: the tenant's share of the turns, compared to the others'.
        parallel: kept requests that a process runs at a time, however many slots are free. Of `parallel` and of
            `attempts` the largest of all policies bounds the process.
        estimate: the tokens that a request is expected to take, for the order of turns.
        webhooks: the addresses that a client may name in `X-Webhook-URL`, to be told that its request or its batch is
            over; if left out, it may name none.
        batches: the bounds of files and batches (`/v1/files`, `/v1/batches`, `/v1/messages/batches`), for each caller.
    """

    stands_between: ClassVar = (("auth", "access"), ("rate_limit", "queue"))

    def __init__(
        self,
        app: ASGIApp,
        *,
        journal: Journal,
        clock: Clock,
        webhook_calls: Webhooks | None = None,
        background: Background | None = None,
        when: frozenset[Occasion] = frozenset({"asked"}),
        priority: Literal["low", "normal", "high"] | Annotated[int, Field(ge=-100, le=100)] = -10,
        keep: Annotated[Duration, Least("1s")] = 86400.0,
        wait: Duration | None = None,
        attempts: Annotated[int, Field(ge=1, le=100)] = 3,
        per_identity: Annotated[int, Field(ge=1)] = 1000,
        total: Annotated[int, Field(ge=1)] = 10000,
        max_body: Size = 4 * 1024 * 1024,
        max_answer: Size = 16 * 1024 * 1024,
        weight: Annotated[float, Field(gt=0, le=1000)] = 1.0,
        parallel: Annotated[int, Field(ge=1)] = 64,
        estimate: Estimate = Estimate(),  # noqa: B008 (it is frozen)
        webhooks: WebhookOptions | None = None,
        batches: BatchOptions = BatchOptions(),  # noqa: B008 (it is frozen)
    ) -> None:
        self.app = app
        self.running = RunningTerms(attempts, parallel)
        self.terms = DeferTerms(
            priority=PRIORITIES[priority] if isinstance(priority, str) else priority,
            keep=keep,
            wait=wait,
            attempts=attempts,
            per_identity=per_identity,
            total=total,
            max_body=max_body,
            max_answer=max_answer,
            weight=weight,
            estimate=estimate,
        )
        self._batches = BatchTerms(batches, self.terms, webhooks)
        self._background = background
        self._journal = journal
        self._clock = clock
        self._when = when
        self._webhooks = webhooks
        self._answering = Answering()
        if webhooks is not None and webhook_calls is not None:
            webhook_calls.know(webhooks)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Act on a request that may be kept; pass every other on, without a coroutine of its own."""
        if scope["type"] == "http":
            exchange = Exchange.of(scope)
            if (run := stored_run(scope)) is not None:
                exchange.part(DeferPart).deferred = run.id
            elif exchange.route is not None and exchange.route.kind == "stored":
                set_batch_terms(scope, self._batches)
            elif (route := deferrable(exchange)) is not None:
                if self._background is not None and may_ask(route):
                    return self._run_or_act(exchange, route, self._background, receive, send)
                return self._act_or_pass(exchange, route, receive, send)
        return self.app(scope, receive, send)

    def _act_or_pass(self, exchange: Exchange, route: Route, receive: Receive, send: Send) -> Awaitable[None]:
        wish = preferences(exchange.scope)
        if "full" in self._when or (wish.asynchronous and self._when):
            return self._act(exchange, route, wish, receive, send)
        return self.app(exchange.scope, receive, send)

    async def _run_or_act(
        self, exchange: Exchange, route: Route, background: Background, receive: Receive, send: Send
    ) -> None:
        """Let a request run in the background where its body asks for it."""
        if not await asked_for(exchange):
            await self._act_or_pass(exchange, route, receive, send)
            return
        asked = await in_background(exchange, await plain_body(exchange))
        key = idempotency_key(exchange.scope)
        told = webhook_meta(exchange.scope, self._webhooks)
        entry = await self._accept(exchange, route, asked.body, key, told, id=asked.id)
        await background.accepted(entry, send, stream=asked.stream)

    async def explain(self, exchange: Exchange) -> Explanation:
        """Say whether the request would be kept to run later."""
        if deferrable(exchange) is None:
            return Explanation("skip", "only requests that run a model are kept to run later")
        terms = self.terms
        kept = f"kept for {format_duration(terms.keep)}, and runs with priority {terms.priority}"
        if may_ask(exchange.route) and await asked_for(exchange):
            return Explanation("change", f"answered with a response that is made in the background; {kept}")
        if preferences(exchange.scope).asynchronous and "asked" in self._when:
            return Explanation("change", f"answered 202, as its client asks for it; {kept}")
        if "full" in self._when or (self._when and preferences(exchange.scope).asynchronous):
            return Explanation("pass", f"where the queue has no room for it: answered 202, {kept}")
        return Explanation("pass", "its client does not ask to be answered later")

    async def _act(self, exchange: Exchange, route: Route, wish: Preferences, receive: Receive, send: Send) -> None:
        body = await plain_body(exchange)
        key = idempotency_key(exchange.scope) if wish.asynchronous else None
        told = webhook_meta(exchange.scope, self._webhooks) if wish.asynchronous else {}
        at_once = wish.asynchronous and "asked" in self._when
        refusal: Refused | None = None
        live = not at_once or bool(wish.wait)
        with self._answering.hold(stored_caller_of(exchange).owner, key if live else None):
            entry = await self._known(exchange, route, body, key) if live and key is not None else None
            if live and entry is None:
                refusal = await self._answered_live(exchange, wish.wait if at_once else None, receive, send)
                if exchange.status is not None:
                    return
            try:
                entry = entry or await self._accept(exchange, route, body, key, told)
            except Refused as no_room:
                if refusal is None or wish.asynchronous:
                    raise
                let_go(no_room)
                raise refusal from None  # its client knows nothing of a journal
        if refusal is not None:
            let_go(refusal)
        await self._tell(exchange, entry, send, asked=wish.asynchronous)

    async def _known(self, exchange: Exchange, route: Route, body: bytes, key: str) -> Entry | None:
        """Return the entry that the request has become before; None where it has not; raises Refused (422, 503)."""
        new = entry_of(exchange, route, self.terms, now=self._clock.time(), body=body, key=key)
        return await known_entry(self._journal, new)

    async def _answered_live(
        self, exchange: Exchange, wait: int | None, receive: Receive, send: Send
    ) -> Refused | None:
        """Let the chain answer. Where it does not, as there is no room or no turn within `wait`, return why.

        Raises what else the chain raises.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit:
                timer = loop.call_later(wait, _expire, limit, exchange) if wait is not None else None
                try:
                    await self.app(exchange.scope, receive, send)
                finally:
                    if timer is not None:
                        timer.cancel()
        except Refused as refused:
            if refused.code not in NO_ROOM or exchange.status is not None or exchange.heartbeats:
                raise
            return refused
        except TimeoutError:
            if not limit.expired():
                raise
        return None

    async def _accept(
        self,
        exchange: Exchange,
        route: Route,
        body: bytes,
        key: str | None,
        meta: Mapping[str, Any],
        id: str | None = None,
    ) -> Entry:
        """Put the request into the journal; raises Refused (413, 422, 429, 503, 507)."""
        new = entry_of(exchange, route, self.terms, now=self._clock.time(), body=body, id=id, key=key, meta=meta)
        entry = await add_entry(self._journal, new)
        exchange.part(DeferPart).deferred = entry.id
        return entry

    async def _tell(self, exchange: Exchange, entry: Entry, send: Send, *, asked: bool) -> None:
        """Answer 202: the request was accepted."""
        headers: list[Header] = [(b"location", address_of(entry.id).encode())]
        if asked:
            headers.append((b"preference-applied", b"respond-async"))
        await send_json(send, receipt(entry, durable=self._journal.durable), 202, headers)


def _expire(limit: asyncio.Timeout, exchange: Exchange) -> None:
    """Stop waiting, unless the turn of the request has come."""
    if exchange.backend is None and exchange.status is None and not exchange.heartbeats:
        limit.reschedule(asyncio.get_running_loop().time())
