"""``rate_limit``: how many requests, tokens and running requests whom is let through."""

from collections.abc import Awaitable, Sequence
from functools import partial
from math import ceil
from typing import Annotated, Final

from pydantic import Field

from middleware.rate_limit.headers import announce, duration
from middleware.rate_limit.options import Limit, OnStoreFailure, Rates, Streams
from middleware.rate_limit.rules import Rule, rules_of
from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.explain import Explanation
from proxy.kernel.policy_names import EntryName
from proxy.kernel.quota_key import By
from proxy.kernel.quotas import Admission, Lease, Level, Quota
from proxy.kernel.routes import Route, RouteClass
from proxy.kernel.store import Store, StoreUnavailable
from proxy.kernel.token_estimate import Estimate, Expected, expect, expect_form, usage_of, used
from proxy.kernel.units import Percent

OWN: Final = "default"
"""The name of the limit that an entry itself is, beside those it lists."""


class RateLimit:
    """Limits requests, tokens and concurrent requests, per caller and time. A request that it refuses costs nothing.

    ``minute``, ``hour`` and durations such as ``24h`` mean any such time in a row; ``day`` and ``month`` are those of
    the calendar, in UTC. Counters belong to the entry, the limit's name and whom it counts: a caller who comes under
    another policy goes on counting where he stood.

    Args:
        requests: requests let through, for example `60/minute`; several rates hold at once.
        tokens: tokens in and out, for example `100000/minute`; several rates hold at once. A request reserves an
            estimate, and counts with its real number in the end; with anything left the next one is let through.
        streams: requests running at the same time, streamed or not.
        by: what is counted together; a list counts combinations. A caller without identity counts by address, and an
            IPv6 address by its /64.
        limits: further limits with names of their own, which hold together with the one above.
        estimate: what a request reserves.
        routes: the route classes that are limited; all others pass.
        on_store_failure: what holds while a shared store is away. `open` is no limit, `closed` lets nothing through,
            `local` counts in this process.
        local_share: the part of each amount that one process allows by `local`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        store: Store,
        entry: EntryName | None = None,
        requests: Rates = (),
        tokens: Rates = (),
        streams: Streams | None = None,
        by: By | tuple[By, ...] = "identity",
        limits: tuple[Limit, ...] = (),
        estimate: Estimate = Estimate(),  # noqa: B008
        routes: frozenset[RouteClass] = frozenset({"inference"}),
        on_store_failure: OnStoreFailure = "local",
        local_share: Annotated[Percent, Field(gt=0)] = 0.5,
    ) -> None:
        # Constructed, not validated: the options were, and are values by now.
        own = Limit.model_construct(
            name=OWN, by=by, requests=requests, tokens=tokens, streams=streams, on_store_failure=on_store_failure
        )
        first = (own,) if requests or tokens or streams or not limits else ()
        self._app = app
        self._store = store
        self._entry = entry or "rate_limit"
        self._rules = rules_of(self._entry, (*first, *limits), local_share)
        self._estimate = estimate
        self._routes = routes
        self._early = tuple(rule for rule in self._rules if "model" not in rule.by)  # they need no body
        self._counts_tokens = any(rule.counts_tokens for rule in self._rules)
        self._reads_body = self._counts_tokens or any("model" in rule.by for rule in self._rules)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the request, or refuse it."""
        exchange = Exchange.of(scope)
        route = exchange.route
        if route is not None and route.kind in self._routes:
            await self._admit(exchange, route)
        await self._app(scope, receive, send)

    async def before_body(self, exchange: Exchange) -> None:
        """Refuse at once, before a body is read, where a counter is known to be full; nothing is counted."""
        route = exchange.route
        if not self._early or route is None or route.kind not in self._routes:
            return
        store, rules, quotas = self._store, self._early, [rule.quota(exchange) for rule in self._early]
        try:
            levels = await store.known(quotas)
        except StoreUnavailable as error:
            store, rules, quotas = self._without_store(rules, quotas, error)
            levels = await store.known(quotas)
        full = [level for level in levels if level.full]
        if full:
            announce(exchange.response_headers, levels, [rule.name for rule in rules])
            raise self._refusal(rules, full)

    async def explain(self, exchange: Exchange) -> Explanation:
        """Say how full the caller's counters are, and count nothing."""
        route = exchange.route
        if route is None or route.kind not in self._routes:
            return Explanation("skip", f"only {' and '.join(sorted(self._routes))} requests are limited")
        expected = await self._expect(exchange, route)
        quotas = [rule.quota(exchange) for rule in self._rules]
        try:
            levels = await self._store.look(quotas)
        except StoreUnavailable as error:
            rules = ", ".join(f"{rule.name} is {rule.on_store_failure}" for rule in self._rules)
            closed = any(rule.on_store_failure == "closed" for rule in self._rules)
            text = f"the counters cannot be read ({error}); for this while {rules}"
            return Explanation("refuse" if closed else "pass", text)
        full = [level for level in levels if level.full]
        if full:
            return Explanation("refuse", self._refusal(self._rules, full).message)
        found = "; ".join(self._rules[level.quota].describe(level) for level in levels)
        return Explanation("pass", f"{found}; it would reserve {expected.total} tokens" if expected.total else found)

    async def _admit(self, exchange: Exchange, route: Route) -> None:
        if self._reads_body and not exchange.has_body:  # else a plugin above has read it, and asked us before
            await self.before_body(exchange)
        expected = await self._expect(exchange, route)
        store, rules, admission = await self._ask(exchange, expected.total)
        if admission.levels:
            announce(exchange.response_headers, admission.levels, [rule.name for rule in rules])
        if admission.full:
            raise self._refusal(rules, admission.full)
        if admission.lease is not None:
            exchange.on_finish(partial(_settle, store, admission.lease, expected if self._counts_tokens else None))

    async def _expect(self, exchange: Exchange, route: Route) -> Expected:
        """Read as much of the body as the limits depend on, and return what the request will cost."""
        if not self._reads_body:
            return Expected()
        if route.body == "json":
            document = await exchange.json()
            if self._counts_tokens and route.kind == "inference":
                return expect(route, document, exchange.prompt_size, self._estimate)
        elif route.body == "multipart":
            form = await exchange.body()
            if self._counts_tokens and route.kind == "inference":
                return expect_form(len(form), self._estimate)
        return Expected()

    async def _ask(self, exchange: Exchange, tokens: int) -> tuple[Store, Sequence[Rule], Admission]:
        """Return the decision, and whose it is: the store's about all rules, or while it is away, what these say."""
        quotas = [rule.quota(exchange) for rule in self._rules]
        try:
            return self._store, self._rules, await self._store.admit(quotas, tokens)
        except StoreUnavailable as error:
            store, rules, quotas = self._without_store(self._rules, quotas, error)
        return store, rules, await store.admit(quotas, tokens)

    def _without_store(
        self, rules: Sequence[Rule], quotas: Sequence[Quota], error: StoreUnavailable
    ) -> tuple[Store, tuple[Rule, ...], list[Quota]]:
        """Return where and what to count while the store is away; raises Refused (503) where a rule wants that."""
        if any(rule.on_store_failure == "closed" for rule in rules):
            raise Refused(
                503,
                f"{self._entry}: what is left for you cannot be found out at the moment; try again shortly",
                code="limits_unavailable",
                headers={"retry-after": "1"},
            ) from error
        own = [place for place, rule in enumerate(rules) if rule.on_store_failure == "local"]
        return (
            self._store.local,
            tuple(rules[place] for place in own),
            [rules[place].local(quotas[place]) for place in own],
        )

    def _refusal(self, rules: Sequence[Rule], full: Sequence[Level]) -> Refused:
        """Return the error that tells of the counter that stays full for longest."""
        level = max(full, key=_resets_in)
        rule = rules[level.quota]
        name = self._entry if rule.name == OWN else f"{self._entry} {rule.name}"
        when = f"in {duration(level.resets_in)}" if level.resets_in else "when a running request has ended"
        return Refused(
            429,
            f"{name}: {rule.describe(level)}; try again {when}",
            headers={"retry-after": str(max(1, ceil(level.resets_in)))},
        )


def _resets_in(level: Level) -> float:
    return level.resets_in


def _settle(store: Store, lease: Lease, expected: Expected | None, exchange: Exchange) -> Awaitable[None] | None:
    if expected is None:
        return store.settle(lease, 0)
    usage = usage_of(exchange, expected)
    if usage is not None:
        exchange.count_usage(usage)
    return store.settle(lease, used(exchange, expected))
