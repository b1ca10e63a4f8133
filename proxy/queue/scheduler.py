"""The scheduler: requests wait here for slots. It implements the service `Scheduler`.

The fair queue (``proxy/queue/fair_queue.py``) decides whose turn it is. This module holds the waiting tasks and their
deadlines, and refuses requests that would wait in vain.

A request is let in only where its estimated turn comes in time, and gets a slot only in time, however late its timer
fires. So no slot goes to a request whose caller has given up, and after a burst the queue holds no more requests than
can be served within their deadlines. Of a tenant most of whose requests have to be refused anyway
(``proxy/queue/tenant_overload.py``) the queue holds no more requests than there are slots, so that each goes within one
service time.
"""

import asyncio
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from typing import Final, NamedTuple

from proxy.kernel import error_codes as codes
from proxy.kernel.attempts import Held
from proxy.kernel.clock import Clock
from proxy.kernel.error_codes import Code
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import QueuePart
from proxy.kernel.shared_line import Demand, SharedLine
from proxy.kernel.slot_scheduling import Outlook, Scheduler, Slots, Terms
from proxy.kernel.stored_run import stored_run
from proxy.queue.fair_queue import FIRST, Ahead, FairQueue, Verdict
from proxy.queue.fair_queue_parts import Claim, Entry
from proxy.queue.pace import Pace
from proxy.queue.tenant_overload import Demands, Late

REMEMBERED: Final = 1000
"""Largest number of lanes whose pace is remembered, and of tenants in lanes whose demand is."""
TOLD: Final = 100
"""Number of groups of waiters of which all proxies together tell; the server looks at all of them for each slot."""
LEAST_TOLD: Final = 10
"""Number of them of which each proxy may tell, however many proxies there are."""
HIGHEST: Final = 1e9
"""The priority of a further attempt, as other proxies are told."""
LONGEST: Final = 3600
"""The longest Retry-After, seconds."""


@dataclass(slots=True)
class Counts:
    """The number of requests so far, by what became of them.

    Attributes:
        at_once: requests that got a slot without waiting.
        waited: requests that waited and got a slot.
        dropped: requests that got no slot, by the reason: the code of the error, or ``client_gone``.
    """

    at_once: int = 0
    waited: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Status:
    """The queue at one moment.

    Attributes:
        waiting: number of waiting requests, by tenant.
        oldest: seconds that the longest waiting request has waited.
    """

    waiting: dict[str, int]
    oldest: float


class _Ticket(NamedTuple):
    """Terms and claim of a request, kept for its further attempts and for its real cost."""

    terms: Terms
    claim: Claim


class _Waiter:
    """One waiting request. Its future gets the lease, or the exception that ends the wait."""

    __slots__ = ("came", "exchange", "future", "latest")

    def __init__(self, exchange: Exchange, came: float, latest: float) -> None:
        self.exchange = exchange
        self.came = came
        self.latest = latest
        self.future: asyncio.Future[Held | Exception] = asyncio.get_running_loop().create_future()


class FairScheduler(Scheduler):
    """Lets requests wait for slots, each tenant's in its turn.

    Args:
        slots: gives out the slots.
        clock: measures deadlines and waits.

    Attributes:
        counts: what became of the requests so far.
        line: the line of all proxies that share these slots; None where this one has them for itself.
    """

    def __init__(self, slots: Slots, clock: Clock) -> None:
        self.counts = Counts()
        self._slots = slots
        self._clock = clock
        self._queue: FairQueue[_Waiter] = FairQueue()
        self._paces: dict[Hashable, Pace] = {}
        self._demands = Demands(REMEMBERED)
        self.line: SharedLine | None = None
        slots.on_free(self._drain)

    def status(self) -> Status:
        """Return the number of waiting requests, and for how long the first has waited."""
        first = self._queue.oldest()
        oldest = self._clock.monotonic() - first.item.came if first is not None else 0.0
        return Status(self._queue.by_tenant(), oldest)

    async def enter(self, exchange: Exchange, terms: Terms) -> None:
        """See `Scheduler.enter`."""
        await self._slots.settled(exchange)
        claim = self._claim(exchange, terms)
        noted = exchange.part(QueuePart)
        noted.ticket, noted.deadline = _Ticket(terms, claim), terms.deadline
        if self._at_once(exchange, claim.lane):
            self._queue.charge(claim)
            self._demands.let_in(claim.who, self._clock.monotonic())
            self.counts.at_once += 1
            return
        outlook = self._outlook(exchange, terms, claim)
        if outlook.refusal is not None:
            self.counts.dropped[outlook.refusal.code] += 1
            if outlook.refusal.code == codes.QUEUE_TOO_SLOW:
                self._kept_out(exchange, terms, claim, outlook)
            raise outlook.refusal
        if self._is_full_for_tenant(terms):
            self._make_room(self._queue.crowding_out_own(claim))
        elif len(self._queue) >= terms.depth:
            self._make_room(self._queue.crowding_out(claim))
        now = self._clock.monotonic()
        self._demands.let_in(claim.who, now)
        if not self._queue.in_lane(claim.lane):
            self._pace(claim.lane).began(now)
        noted.queue_position = outlook.position
        noted.lease = await self._wait(exchange, terms, claim)

    async def again(self, exchange: Exchange) -> None:
        """See `Scheduler.again`."""
        ticket = exchange.ticket
        assert isinstance(ticket, _Ticket)  # noqa: S101 (`enter` has set it)
        claim = ticket.claim._replace(lane=self._slots.lane(exchange), cost=0, priority=FIRST)
        if not self._at_once(exchange, claim.lane):
            exchange.part(QueuePart).lease = await self._wait(exchange, ticket.terms, claim)

    def leave(self, exchange: Exchange) -> None:
        """See `Scheduler.leave`."""
        lease = exchange.take_lease()
        if lease is not None:
            lease.give_back()
        ticket, usage = exchange.ticket, exchange.usage
        if isinstance(ticket, _Ticket) and usage is not None:
            self._queue.learn(ticket.claim, (usage.tokens_in or 0) + (usage.tokens_out or 0))

    def outlook(self, exchange: Exchange, terms: Terms) -> Outlook:
        """See `Scheduler.outlook`."""
        return self._outlook(exchange, terms, self._claim(exchange, terms))

    # Waiting

    def _at_once(self, exchange: Exchange, lane: Hashable) -> bool:
        """Take a free slot without waiting. No waiter is passed over: those of other lanes wait for other slots."""
        if self._queue.in_lane(lane):
            return False
        found = self._slots.try_lease(exchange, waiting=1)
        if isinstance(found, str):
            return False
        exchange.part(QueuePart).lease = found
        return True

    async def _wait(self, exchange: Exchange, terms: Terms, claim: Claim) -> Held:
        """Wait for the turn of this request, and return its lease."""
        came = self._clock.monotonic()
        waiter = _Waiter(exchange, came, came + self._patience(exchange, terms))
        noted = exchange.part(QueuePart)
        noted.queue_reason = "turn"
        behind = self._queue.in_lane(claim.lane) > 0 and self._queue.of_tenant(claim.tenant) > 0
        entry = self._queue.push(waiter, claim)
        timer = asyncio.get_running_loop().call_later(waiter.latest - came, self._expire, entry)
        try:
            self._drain(claim.lane)
            if self.line is not None and not waiter.future.done():
                self.line.changed(behind=behind)
            outcome = await waiter.future
        except BaseException:
            self._abandon(entry)
            raise
        finally:
            timer.cancel()
            noted.queued += self._clock.monotonic() - came
        if isinstance(outcome, Exception):
            raise outcome
        self.counts.waited += 1
        return outcome

    def _drain(self, lane: Hashable | None = None) -> None:
        """Give out the free slots, in one lane or in all."""
        if self._queue:
            self._queue.drain(self._offer, lane)

    def demands(self) -> list[Demand]:
        """Return the waiters for whom a permit of the fleet is wanted, those who are next here first.

        They are as many groups as this proxy's part of `TOLD`.
        """
        now, found = self._clock.monotonic(), []
        most = max(LEAST_TOLD, TOLD // self.line.proxies if self.line is not None else TOLD)
        for entry, waiting in islice(self._queue.firsts(), most):
            claim = entry.claim
            if backends := self._slots.wanted(entry.item.exchange):
                priority = min(claim.priority, HIGHEST)
                waited = now - entry.item.came
                found.append(Demand(claim.tenant, priority, claim.weight, claim.cost, waiting, waited, backends))
        return found

    def granted(self, tenants: Sequence[str]) -> None:
        """Let waiters of these tenants, whose turn it is among all proxies, go before the others; then those."""
        for tenant in tenants:
            self._queue.offer_to(tenant, self._offer)
        self._drain()

    def _offer(self, entry: Entry[_Waiter], waiting: int) -> Verdict:
        """Try to take a slot for one waiter."""
        waiter, claim = entry.item, entry.claim
        exchange, now = waiter.exchange, self._clock.monotonic()
        if waiter.future.done():
            return "gone"  # its task was cancelled, and is about to remove it
        if now > waiter.latest:
            self._end(waiter, self._too_late(entry))
            return "gone"
        if not self._slots.any_free():
            exchange.part(QueuePart).queue_reason = "slots"
            return "over"
        try:
            found = self._slots.try_lease(exchange, waiting=waiting)
        except Exception as error:  # it concerns this request only, and must not stop the others
            self._end(waiter, error)
            return "gone"
        if isinstance(found, str):
            exchange.part(QueuePart).queue_reason = found
            return "full"
        if claim.priority != FIRST:
            self._pace(claim.lane).moved(now, claim.cost)
        waiter.future.set_result(found)
        return "taken"

    def _expire(self, entry: Entry[_Waiter]) -> None:
        """Refuse a waiter whose time is up."""
        if self._queue.remove(entry):
            self._end(entry.item, self._too_late(entry))

    def _abandon(self, entry: Entry[_Waiter]) -> None:
        """Remove a waiter whose task was cancelled; it may have got its slot in the same turn of the event loop."""
        waited, future = self._queue.remove(entry), entry.item.future
        if waited or future.cancelled() or not future.done():
            self.counts.dropped["client_gone"] += 1
        elif not isinstance(outcome := future.result(), Exception):
            outcome.give_back()

    def _end(self, waiter: _Waiter, error: Exception) -> None:
        if not waiter.future.done():
            self.counts.dropped[error.code if isinstance(error, Refused) else "error"] += 1
            waiter.future.set_result(error)

    # Estimates

    def _claim(self, exchange: Exchange, terms: Terms) -> Claim:
        lane = self._slots.lane(exchange)
        return Claim(terms.tenant, lane, terms.cost, terms.weight, terms.priority, terms.person)

    def _patience(self, exchange: Exchange, terms: Terms) -> float:
        """Return the seconds that a request may wait: with a deadline, the service time is left for its response."""
        if terms.deadline is None:
            return terms.wait
        left = terms.deadline - self._clock.monotonic() - (self._slots.service_time(exchange) or 0.0)
        return min(terms.wait, left)

    def _pace(self, lane: Hashable) -> Pace:
        pace = self._paces.get(lane)
        if pace is None:
            pace = self._paces[lane] = Pace()
            if len(self._paces) > REMEMBERED:
                del self._paces[next(iter(self._paces))]
        return pace

    def _kept_out(self, exchange: Exchange, terms: Terms, claim: Claim, outlook: Outlook) -> None:
        """Note a request that came too late, unless its time is shorter than any backend needs.

        Nor is one noted that runs later, as it waits briefly on purpose and comes again.
        """
        if stored_run(exchange.scope) is not None:
            return
        each, patience = self._slots.service_time(exchange), self._patience(exchange, terms)
        if each is not None and patience >= each:
            turn = outlook.seconds or 0.0
            late = Late(turn, turn / outlook.position, patience, each)
            self._demands.kept_out(claim.who, self._clock.monotonic(), late)

    def _is_beyond(self, exchange: Exchange, claim: Claim, ahead: Ahead) -> bool:
        """Return whether a request is one too many of a tenant that asks for too much.

        Every slot comes free once within a service time. So a request with fewer requests ahead than there are slots
        has its turn within that time.
        """
        if not self._demands.excessive(claim.who, self._clock.monotonic()):
            return False
        return ahead.requests >= (self._slots.capacity(exchange) or 1)

    def _seconds(self, exchange: Exchange, lane: Hashable, ahead: Ahead) -> float | None:
        """Return seconds until the turn of a request with `ahead` before it; None if unknown."""
        pace, slots = self._paces.get(lane), self._slots.capacity(exchange)
        if pace is not None:
            measured = pace.seconds(self._clock.monotonic(), ahead.tokens, at_once=slots or 1)
            if measured is not None:
                return measured
        each = self._slots.service_time(exchange)
        return (ahead.requests + 1) * each / slots if each is not None and slots else None

    def _outlook(self, exchange: Exchange, terms: Terms, claim: Claim) -> Outlook:
        ahead = self._queue.ahead(claim)
        seconds = self._seconds(exchange, claim.lane, ahead)
        patience = self._patience(exchange, terms)
        own = self._queue.of_tenant(claim.tenant)
        refusal = None
        if self._is_full_for_tenant(terms) and self._queue.crowding_out_own(claim) is None:
            message = f"{own} requests of yours are waiting already, which is as many as may"
            refusal = _refused(429, message, codes.TENANT_QUEUE_FULL, (seconds or 0.0) / max(1, own))
        elif patience <= 0:
            message = "all backends are busy, and the time that you give this request is too short to wait for one"
            refusal = _refused(503, message, codes.QUEUE_TOO_SLOW, seconds)
        elif ahead.requests and seconds is not None and seconds > patience:
            message = f"it would be your turn in {seconds:.0f} s, but this request may wait only {patience:.3g} s"
            refusal = _refused(503, message, codes.QUEUE_TOO_SLOW, seconds - patience)
        elif self._is_beyond(exchange, claim, ahead):
            message = (
                "most of what you ask for cannot be served in time, so no more of it waits than can run at once; "
                f"{ahead.requests} would go before this one"
            )
            promised = self._demands.promised(claim.who, self._clock.monotonic())
            refusal = _refused(503, message, codes.QUEUE_TOO_SLOW, promised + (seconds or 0.0) / (ahead.requests + 1))
        elif len(self._queue) >= terms.depth and self._queue.crowding_out(claim) is None:
            message = f"{len(self._queue)} requests are waiting already, which is as many as may"
            refusal = _refused(503, message, codes.QUEUE_FULL, (seconds or 0.0) / (ahead.requests + 1))
        return Outlook(ahead.requests + 1, seconds, refusal)

    def _is_full_for_tenant(self, terms: Terms) -> bool:
        most = terms.depth_per_tenant
        return most is not None and self._queue.of_tenant(terms.tenant) >= most

    def _make_room(self, entry: Entry[_Waiter] | None) -> None:
        """Refuse a waiter that gives way to another request."""
        if entry is not None and self._queue.remove(entry):
            message = "the queue is full and most of it is yours, so your last request gave way to another caller's"
            seconds = self._seconds(entry.item.exchange, entry.claim.lane, self._queue.ahead(entry.claim))
            self._end(entry.item, _refused(429, message, codes.QUEUE_SHARE_EXCEEDED, seconds))

    def _too_late(self, entry: Entry[_Waiter]) -> Refused:
        waiter, claim = entry.item, entry.claim
        seconds = self._seconds(waiter.exchange, claim.lane, self._queue.ahead(claim))
        waited = self._clock.monotonic() - waiter.came
        refusal = _refused(
            503, f"no backend was free within {waited:.3g} s (timer queue)", codes.QUEUE_TIMEOUT, seconds
        )
        refusal.outcome = "timed_out"
        return refusal


def _refused(status: int, message: str, code: Code, seconds: float | None) -> Refused:
    """Return a refusal with a Retry-After of about `seconds`, at most LONGEST."""
    after = min(LONGEST, max(1, ceil(seconds or 0.0)))
    return Refused(status, f"{message}; try again in {after} s", code=code, headers={"retry-after": str(after)})
