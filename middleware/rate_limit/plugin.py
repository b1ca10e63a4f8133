"""``rate_limit``: limits each caller's requests, tokens and running requests."""

from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from math import ceil
from typing import Annotated, Any, Final

from pydantic import Field

from middleware.rate_limit.compiled_limits import Rule, rules_of
from middleware.rate_limit.headers import announce, duration
from middleware.rate_limit.options import Limit, OnStoreFailure, Rates, Streams
from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send, header
from proxy.kernel.defined_policies import EntryName
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.explain import Explanation
from proxy.kernel.quota_key import By
from proxy.kernel.quotas import Admission, Level, Quota, Reservation
from proxy.kernel.route import Route, RouteClass
from proxy.kernel.store import Store, StoreUnavailable
from proxy.kernel.token_estimate import Estimate, Expected, expect, expect_form, expect_unread, usage_of, used
from proxy.kernel.units import Percent

OWN: Final = "default"
"""The name of the limit that the entry's own options define, beside `limits`."""
_LIMITED: Final[frozenset[RouteClass]] = frozenset({"inference"})
"""The route classes that are limited by default."""


class RateLimit:
    """Limits requests, tokens and concurrent requests, per caller and time. A request that it refuses costs nothing.

    ``minute``, ``hour`` and durations such as ``24h`` mean any period of that length; ``day`` and ``month`` are those
    of the calendar, in UTC. A counter belongs to the entry, the limit's name and the caller: when a caller's policy
    changes, the caller keeps the same counters.

    Args:
        requests: requests let through, for example `60/minute`; several rates apply together.
        tokens: input and output tokens, for example `100000/minute`; several rates apply together. A request reserves
            an estimate and is charged its real number at its end. While anything is left, the next request is let
            through.
        streams: requests running at the same time, streamed or not.
        by: what is counted together; a list counts combinations. A caller without identity counts by address, and an
            IPv6 address by its /64; one without an end user (`auth.end_users`) by its identity.
        limits: further limits with names of their own, which apply together with the one above.
        estimate: the tokens that a request reserves.
        routes: the route classes that are limited; all others pass.
        on_store_failure: what applies while a shared store cannot be reached: `open` is no limit, `closed` refuses
            every request, `local` counts in this process.
        local_share: the part of each amount that one process allows under `local`.
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
        routes: frozenset[RouteClass] = _LIMITED,
        on_store_failure: OnStoreFailure = "local",
        local_share: Annotated[Percent, Field(gt=0)] = 0.5,
    ) -> None:
        # model_construct skips validation: the options are already validated values.
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
        self._early = tuple(rule for rule in self._rules if "model" not in rule.by)  # these need no body
        self._counts_tokens = any(rule.counts_tokens for rule in self._rules)
        self._by_end_user = any("end_user" in rule.by for rule in self._rules)
        self._reads_body = self._counts_tokens or any("model" in rule.by for rule in self._rules)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the request, or refuse it."""
        exchange = Exchange.of(scope)
        route = exchange.route
        if route is not None and route.kind in self._routes:
            await self._admit(exchange, route)
        await self._app(scope, receive, send)

    async def before_body(self, exchange: Exchange) -> None:
        """Refuse the request before its body is read if a counter is known to be full. Counts nothing."""
        route = exchange.route
        if not self._early or route is None or route.kind not in self._routes:
            return
        store, rules = self._store, self._early
        if self._by_end_user and exchange.end_user_in_body and not exchange.has_body:
            rules = tuple(rule for rule in rules if "end_user" not in rule.by)
        quotas = [rule.quota(exchange) for rule in rules]
        try:
            levels = await store.known(quotas)
        except StoreUnavailable as error:
            store, rules, quotas = self._without_store(rules, quotas, error)
            levels = await store.known(quotas)
        full = [level for level in levels if level.full]
        if full:
            announce(exchange.response_headers, levels, [rule.name for rule in rules])
            raise self._refusal(rules, full)

    @staticmethod
    def cannot_govern(route: Route, options: Mapping[str, Any]) -> str | None:
        """Return why a limit by model cannot govern `route`, or None; see `proxy.chain.plugin_lookup.Plugin`."""
        limited = options.get("routes", _LIMITED)
        if route.kind != "inference" or route.kind not in limited or route.names_model:
            return None
        counted = [options.get("by"), *(limit.by for limit in options.get("limits", ()))]
        by_model = any(by == "model" or (isinstance(by, tuple) and "model" in by) for by in counted)
        return "nobody knows where its requests name their model, by which they are counted" if by_model else None

    async def explain(self, exchange: Exchange) -> Explanation:
        """Explain how full the caller's counters are; count nothing."""
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
        if self._needs_body(exchange) and not exchange.has_body:  # else an outer plugin read it after before_body
            await self.before_body(exchange)
        expected = await self._expect(exchange, route)
        store, rules, admission = await self._ask(exchange, expected.total)
        if admission.levels:
            announce(exchange.response_headers, admission.levels, [rule.name for rule in rules])
        if admission.full:
            raise self._refusal(rules, admission.full)
        if admission.reservation is not None:
            exchange.on_finish(
                partial(_settle, store, admission.reservation, expected if self._counts_tokens else None)
            )

    def _needs_body(self, exchange: Exchange) -> bool:
        return self._reads_body or (self._by_end_user and exchange.end_user_in_body)

    async def _expect(self, exchange: Exchange, route: Route) -> Expected:
        """Read as much of the body as the limits need, and return the expected tokens of the request."""
        if not self._needs_body(exchange):
            return Expected()
        if route.body == "json":
            document = await exchange.json()
            if self._counts_tokens and route.kind == "inference":
                return expect(route, document, exchange.prompt_size, self._estimate)
        elif route.body == "multipart":
            form = await exchange.body()
            if self._counts_tokens and route.kind == "inference":
                return expect_form(len(form), self._estimate)
        elif self._counts_tokens and route.kind == "inference":
            return expect_unread(int(header(exchange.scope["headers"], b"content-length") or 0), route, self._estimate)
        return Expected()

    async def _ask(self, exchange: Exchange, tokens: int) -> tuple[Store, Sequence[Rule], Admission]:
        """Return the deciding store, its rules and its decision. If the shared store fails, ask the local one."""
        quotas = [rule.quota(exchange) for rule in self._rules]
        try:
            return self._store, self._rules, await self._store.admit(quotas, tokens)
        except StoreUnavailable as error:
            store, rules, quotas = self._without_store(self._rules, quotas, error)
        return store, rules, await store.admit(quotas, tokens)

    def _without_store(
        self, rules: Sequence[Rule], quotas: Sequence[Quota], error: StoreUnavailable
    ) -> tuple[Store, tuple[Rule, ...], list[Quota]]:
        """Return the store, rules and quotas to use while the shared store fails; raises Refused (503) if `closed`."""
        if any(rule.on_store_failure == "closed" for rule in rules):
            raise Refused(
                503,
                f"{self._entry}: what is left for you cannot be found out at the moment; try again shortly",
                code=codes.LIMITS_UNAVAILABLE,
                headers={"retry-after": "1"},
            ) from error
        own = [place for place, rule in enumerate(rules) if rule.on_store_failure == "local"]
        return (
            self._store.local,
            tuple(rules[place] for place in own),
            [rules[place].local(quotas[place]) for place in own],
        )

    def _refusal(self, rules: Sequence[Rule], full: Sequence[Level]) -> Refused:
        """Return the error for the full counter that resets last."""
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


def _settle(
    store: Store, reservation: Reservation, expected: Expected | None, exchange: Exchange
) -> Awaitable[None] | None:
    if expected is None:
        return store.settle(reservation, 0)
    usage = usage_of(exchange, expected)
    if usage is not None:
        exchange.count_usage(usage)
    return store.settle(reservation, used(exchange, expected))
