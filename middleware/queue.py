"""`queue`: a request that finds no free slot waits for one; tenants take turns.

The plugin decides the terms on which a request waits; the scheduler (``proxy/queue/scheduler.py``) does the waiting.
"""

import re
from collections.abc import Awaitable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send, header
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.explain import Explanation
from proxy.kernel.load_or_unload import load_or_unload
from proxy.kernel.quota_key import key_of
from proxy.kernel.route import Route, RouteClass
from proxy.kernel.slot_scheduling import Scheduler, Terms
from proxy.kernel.stored_run import stored_run
from proxy.kernel.token_estimate import Estimate, expect
from proxy.kernel.units import Duration, Mistake, format_duration, parse_duration

TIMEOUT: Final = b"x-request-timeout"
"""The header by which a client bounds the time until it has the whole answer."""
PRIORITIES: Final[Mapping[str, int]] = {"low": -1, "normal": 0, "high": 1}

_WAITING: Final[frozenset[RouteClass]] = frozenset({"inference"})
"""The route classes that wait by default."""
_SECONDS: Final = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)


class Queue:
    """Lets requests wait for a free slot of a backend; tenants take turns.

    Turns are counted in tokens. A caller without a tenant is a tenant of its own, by its identity or its address. The
    people of one tenant (`auth.end_users`) take turns within what it gets. If no backend has `slots`, no request waits.
    A request that only loads or unloads a model takes no slot and never waits.

    Args:
        depth: requests that may wait in all; with `0` none may. When it is reached, a request of the tenant with the
            most waiting requests is refused.
        depth_per_tenant: requests of one tenant that may wait, `0` for none; if left out, only `depth` bounds them.
        wait: how long a request may wait. A client may shorten it by `X-Request-Timeout`: the time, in seconds or like
            `500ms`, within which it needs the whole answer.
        weight: the tenant's share of the slots, compared to the others'.
        priority: `high`, `normal` (0), `low` or a whole number. Requests of higher priority go first, but after ten of
            them have passed a lower one, the lower one goes.
        routes: the route classes that wait; requests of other classes get a slot at once or an error.
        estimate: the tokens that a request is expected to take before the real number is known.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        scheduler: Scheduler,
        depth: Annotated[int, Field(ge=0)] = 200,
        depth_per_tenant: Annotated[int, Field(ge=0)] | None = None,
        wait: Duration = 60.0,
        weight: Annotated[float, Field(gt=0, le=1000)] = 1.0,
        priority: Literal["low", "normal", "high"] | Annotated[int, Field(ge=-100, le=100)] = "normal",
        routes: frozenset[RouteClass] = _WAITING,
        estimate: Estimate = Estimate(),  # noqa: B008 (it is frozen)
    ) -> None:
        self.app = app
        self._scheduler = scheduler
        self._routes = routes
        self._estimate = estimate
        self._terms = Terms(
            tenant="",
            cost=0,
            weight=weight,
            priority=PRIORITIES[priority] if isinstance(priority, str) else priority,
            depth=depth,
            depth_per_tenant=depth_per_tenant,
            wait=wait,
        )

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Attach the queue terms to a request that may wait; pass every other request on unchanged."""
        if scope["type"] == "http":
            exchange = Exchange.of(scope)
            route = exchange.route
            if route is not None and route.kind in self._routes:
                return self._queue(exchange, route, scope, receive, send)
        return self.app(scope, receive, send)

    async def _queue(self, exchange: Exchange, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        terms = await self._ask(exchange, route)
        if load_or_unload(exchange) is not None:
            await self.app(scope, receive, send)
            return
        try:
            await self._scheduler.enter(exchange, terms)
            await self.app(scope, receive, send)
        finally:
            self._scheduler.leave(exchange)

    @staticmethod
    def cannot_govern(route: Route, options: Mapping[str, Any]) -> str | None:
        """Return why requests of `route` would wait for no slot, or None; see `proxy.chain.plugin_lookup.Plugin`."""
        if route.kind == "inference" and route.kind in options.get("routes", _WAITING) and not route.names_model:
            return "nobody knows where its requests name their model, which says what slot they take"
        return None

    async def explain(self, exchange: Exchange) -> Explanation:
        """Explain how long the request would wait if every slot were taken now."""
        route = exchange.route
        if route is None or route.kind not in self._routes:
            return Explanation("skip", f"only {' and '.join(sorted(self._routes))} requests wait")
        terms = await self._ask(exchange, route)
        if (only := load_or_unload(exchange)) is not None:
            return Explanation("skip", f"it only {only}s the model, and takes no slot")
        outlook = self._scheduler.outlook(exchange, terms)
        if outlook.refusal is not None:
            return Explanation("refuse", f"without a free slot: {outlook.refusal.message}")
        known = "" if outlook.seconds is None else f", in about {outlook.seconds:.3g} s"
        return Explanation(
            "wait" if outlook.position > 1 else "pass",
            f"without a free slot it would be number {outlook.position} in line{known}, and wait up to "
            f"{format_duration(terms.wait)}; it counts as {terms.cost} tokens of {terms.tenant} "
            f"(weight {terms.weight:g}, priority {terms.priority})",
        )

    async def _ask(self, exchange: Exchange, route: Route) -> Terms:
        """Return the queue terms of this request. The body is read first: the model decides which slots it may have."""
        cost = 0
        if route.body != "raw":
            await exchange.body()
            if route.body == "json":
                cost = expect(route, exchange.document or {}, exchange.prompt_size, self._estimate).total
        terms = self._terms
        if (run := stored_run(exchange.scope)) is not None:
            terms = terms._replace(priority=run.priority, wait=run.wait)
        return terms._replace(
            tenant=key_of(("tenant",), exchange).removeprefix("tenant="),
            person=exchange.end_user,
            cost=max(1, cost or self._estimate.output),
            deadline=self._deadline(exchange),
        )

    def _deadline(self, exchange: Exchange) -> float | None:
        value = header(exchange.scope["headers"], TIMEOUT)
        if value is None:
            return None
        text = value.decode("latin-1").strip()
        try:
            seconds = float(text) if _SECONDS.fullmatch(text) else parse_duration(text)
        except Mistake as error:
            raise Refused(400, f"X-Request-Timeout: {error.message}, or seconds like 30") from error
        return exchange.started_at + seconds
