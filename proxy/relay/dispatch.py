"""The innermost ASGI app: lease a backend, send the request, relay the answer.

Before the commit point (`proxy.relay.answer_stream.commit`) every failure is raised, and can still be retried or
answered with its own status.
"""

import asyncio
import math
import time
from collections.abc import Awaitable
from dataclasses import replace
from typing import TypeVar, cast

from proxy.kernel.asgi import Receive, Scope, Send
from proxy.kernel.errors import BackendDown, Refused, UpstreamError, UpstreamTimeout, let_go
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import RelayPart
from proxy.kernel.previous_response import refuse_previous_response
from proxy.kernel.route import Route
from proxy.kernel.routes import Match, NoMatch
from proxy.kernel.shared_line import Demand
from proxy.kernel.slot_scheduling import Scheduler
from proxy.kernel.stored_run import stored_run
from proxy.pool.awaited_answer import AwaitedAnswer
from proxy.pool.lease import Lease
from proxy.pool.pool import Pool
from proxy.pool.request_needs import need_of
from proxy.pool.selection import Wait
from proxy.relay.answer_silence import may_hold_back
from proxy.relay.answer_stream import relay_answer
from proxy.relay.backend_answer import open_answer
from proxy.relay.backend_request import Body, backend_request, read_body
from proxy.relay.context_models import ContextModels, renamed
from proxy.relay.hop_headers import via_names
from proxy.relay.no_route import not_routed
from proxy.upstream.timeouts import Timeouts

T = TypeVar("T")


class Dispatch:
    """Relays one request to one backend.

    Args:
        pool: holds the backends.
        timeouts: the time-out of each phase of a request.
        pseudonym: the name of this process in the Via field; a request that already has it is a loop.
        scheduler: the queue in which further attempts wait, for requests that came through the queue.
    """

    def __init__(self, pool: Pool, timeouts: Timeouts, *, pseudonym: str, scheduler: Scheduler | None = None) -> None:
        self._pool = pool
        self._scheduler = scheduler
        self.pseudonym = pseudonym
        self._via = pseudonym.encode("latin-1")
        self._warm, self._cold = timeouts, timeouts.for_cold()
        self._warm_tools, self._cold_tools = timeouts.for_tools(), timeouts.for_cold().for_tools()
        self._manage = timeouts.for_manage()
        self._context_models = ContextModels(pool)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request from a backend; raises UpstreamError before the commit point, Truncated after it.

        A request whose backend went down while it waited goes to another one here, unless `retry` does that.
        """
        exchange = Exchange.of(scope)
        match = exchange.match
        if isinstance(match, NoMatch):
            raise not_routed(match, scope)
        if via_names(scope["headers"], self._via):
            raise Refused(508, "this request came from this proxy: a backend or a proxy behind it points back here")
        while True:
            try:
                return await self._send(exchange, match, receive, send)
            except BackendDown as error:
                if exchange.resend or not self._pool.untried(exchange):
                    raise
                let_go(error)
            exchange.rewind()

    async def _send(self, exchange: Exchange, match: Match, receive: Receive, send: Send) -> None:
        """Send the request to one backend and relay the answer."""
        body = await read_body(exchange, match, receive)
        if match.route.run is not None and match.route.run.continues is not None:
            refuse_previous_response(exchange)
        if exchange.failed:
            self._pool.blame.check(exchange)
        deadline = self._deadline(exchange, match.route)
        with await self._lease(exchange) as lease:
            exchange.part(RelayPart).sent_to(lease.backend.name, lease.reason)
            if (run := stored_run(exchange.scope)) is not None:
                run.placed()
            try:
                movable = _may_move(exchange, match.route, receive)
                if exchange.num_ctx is not None:
                    named = self._context_models.name_for(exchange, lease.backend, exchange.num_ctx)
                    name = await self._while_up(exchange, lease, deadline, named, movable=movable)
                    body = body if name is None else await _with_context(exchange, body, name)
                timeouts = self._timeouts(exchange, match.route, lease)
                request = backend_request(exchange, match, lease.backend, body, via=self._via, timeouts=timeouts)
                opened = open_answer(exchange, lease, request, match.route, self._pool.blame)
                answer = await self._while_up(exchange, lease, deadline, opened, movable=movable)
                del request, opened, body  # free them: the request was sent, and the answer may take an hour
                try:
                    if exchange.failed:
                        self._pool.blame.answered(exchange, lease.backend, answer.status)
                    streamed = exchange.stream and bool(answer.chunk) and not answer.begins_late
                    lease.first_byte(served=answer.status < 400, streamed=streamed)
                    await relay_answer(exchange, answer, send, deadline=deadline, out_of_time=self._out_of_time)
                finally:
                    await answer.stream.aclose()
            except BaseException as error:
                if isinstance(error, UpstreamError):
                    error.at(lease.backend.name)
                self._pool.outcomes.finished(exchange, lease, _ended_with(exchange, lease) or error)
                raise
            self._pool.outcomes.finished(exchange, lease, _ended_with(exchange, lease))

    async def _lease(self, exchange: Exchange) -> Lease:
        """Return the lease that the queue took for this request, or a new one where the request does not queue."""
        if self._scheduler is None or exchange.ticket is None:
            await self._pool.settled(exchange)
            await self._ask_fleet(exchange)
            return self._pool.lease(exchange)
        lease = cast(Lease | None, exchange.take_lease())
        if lease is not None and lease.need != need_of(exchange):
            lease.give_back()  # `retry` has since replaced the model that the lease was taken for
            lease = None
        if lease is None:
            await self._scheduler.again(exchange)
            lease = cast(Lease, exchange.take_lease())
        return lease

    def _deadline(self, exchange: Exchange, route: Route) -> float | None:
        """Return the loop's time at which the answer must be complete; None for none, as for a pull or an upload."""
        if route.kind == "manage" or self._warm.total == math.inf:
            return None
        return asyncio.get_running_loop().time() + self._warm.total - (time.monotonic() - exchange.started_at)

    async def _ask_fleet(self, exchange: Exchange) -> None:
        """Ask for a permit where the slots are shared with other proxies, and no backend is free without one."""
        pool = self._pool
        if pool.ask_fleet is not None and isinstance(pool.would(exchange), Wait) and (urls := pool.wanted(exchange)):
            await pool.ask_fleet(Demand("", 0, 1.0, 0, 1, 0.0, urls))

    def _timeouts(self, exchange: Exchange, route: Route, lease: Lease) -> Timeouts:
        if route.kind == "manage":
            return self._manage
        tools = may_hold_back(exchange)
        if lease.cold:  # after a time-out another backend would only begin the same load
            return self._cold_tools if tools else self._cold
        warm = self._warm_tools if tools else self._warm
        hurry = exchange.hurry
        if hurry is not None and hurry < warm.first_byte and self._pool.untried(exchange):
            return replace(warm, first_byte=hurry)
        return warm

    async def _while_up(
        self, exchange: Exchange, lease: Lease, deadline: float | None, wait: Awaitable[T], *, movable: bool
    ) -> T:
        """Return the result of `wait`; raises BackendDown, or UpstreamTimeout at the deadline, and cancels it then."""
        awaited = AwaitedAnswer(exchange, movable=movable)
        try:
            async with asyncio.timeout_at(deadline) as awaited.limit:
                lease.backend.awaited[awaited] = None
                try:
                    return await wait
                finally:
                    del lease.backend.awaited[awaited]
                    awaited.limit = None
        except TimeoutError as error:
            raise (awaited.failure() or self._out_of_time()) from error

    def _out_of_time(self) -> UpstreamTimeout:
        return UpstreamTimeout(
            f"the request took longer than the {self._warm.total:g} s that one may take in all",
            timer="total",
            sent=True,
        )


def _may_move(exchange: Exchange, route: Route, receive: Receive) -> bool:
    """Return whether the request may be sent again, to another backend.

    Where `retry` does not do that, dispatch reads the body a second time. A middleware above that rewrites the body may
    do so only once, and would then let the client's own pass.
    """
    return route.repeat != "never" and route.body != "raw" and (exchange.resend or receive == exchange.receive)


def _ended_with(exchange: Exchange, lease: Lease) -> UpstreamError | None:
    """Return the error of the backend's own that a whole answer ended with, even if the client left behind it."""
    failure = exchange.failure
    if failure is not None:
        failure.at(lease.backend.name)
    return failure


async def _with_context(exchange: Exchange, body: Body, name: str) -> Body:
    """Return the body with the name of a model that has the context that the request cannot ask for."""
    noted = exchange.part(RelayPart)
    noted.reason = f"{noted.reason}; as {name}"
    return await renamed(body, exchange, name)
