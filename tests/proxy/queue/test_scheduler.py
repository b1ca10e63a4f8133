"""Requests that wait: who gets in, who gets out, and that nothing is left of those who leave."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.kernel import error_codes as codes
from proxy.kernel.attempts import Usage
from proxy.kernel.clock import Clock
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.slot_scheduling import Scheduler, Slots, Terms
from proxy.kernel.stored_run import RUN, StoredRun
from proxy.queue.scheduler import LEAST_TOLD, TOLD, FairScheduler, _Waiter
from proxy.services.system_clock import SystemClock
from proxy.testing import ManualClock, make_exchange, suppose
from tests.support.options import make_pool
from tests.support.slots import FakeSlots, Slot


async def chat(model: str = "m") -> Exchange:
    exchange = make_exchange(body=b'{"model":"%s"}' % model.encode())
    await exchange.body()
    return exchange


def terms(tenant: str = "a", cost: int = 10, **more: Any) -> Terms:
    return Terms(tenant, cost, **({"depth": 200, "wait": 60.0} | more))


class House:
    """A scheduler, its slots, and the requests that a test lets in."""

    def __init__(self, slots: FakeSlots, clock: Clock | None = None) -> None:
        self.slots = slots
        self.clock = clock or SystemClock()
        self.scheduler = FairScheduler(slots, self.clock)
        self.tasks: list[asyncio.Task[Exchange]] = []
        self.order: list[Exchange] = []
        self.tenants = ""

    async def one(
        self, tenant: str = "a", model: str = "m", *, deferred: bool = False, **more: Any
    ) -> asyncio.Task[Exchange]:
        """Begin a request and let it come as far as it does; the task ends when it has its slot."""
        exchange = await chat(model)
        if deferred:
            exchange.scope[RUN] = StoredRun("0" * 16, -1, 10.0, lambda: None)
        task = asyncio.create_task(self._enter(exchange, terms(tenant, **more)))
        self.tasks.append(task)
        await turn()
        return task

    async def _enter(self, exchange: Exchange, terms: Terms) -> Exchange:
        try:
            await self.scheduler.enter(exchange, terms)
        except BaseException:
            self.scheduler.leave(exchange)
            raise
        self.order.append(exchange)
        self.tenants += terms.tenant
        return exchange

    def finish(self, exchange: Exchange) -> None:
        """Use and give back the slot of `exchange`."""
        lease = exchange.take_lease()
        assert isinstance(lease, Slot)
        lease.give_back()
        self.scheduler.leave(exchange)

    @property
    def waiting(self) -> dict[str, int]:
        return self.scheduler.status().waiting


async def turn() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def house(count: int = 1, *, clock: Clock | None = None, **only: int) -> AsyncIterator[House]:
    made = House(FakeSlots(count, **only), clock)
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)
    assert made.waiting == {}


def test_the_pool_has_slots_and_this_is_a_scheduler() -> None:
    pool: Slots = make_pool()
    assert isinstance(pool, Slots)
    assert isinstance(FairScheduler(pool, SystemClock()), Scheduler)


# In and out


async def test_a_free_slot_is_taken_at_once() -> None:
    async with house() as h:
        exchange = await chat()
        entering = h.scheduler.enter(exchange, terms())
        with pytest.raises(StopIteration):
            entering.send(None)  # it does not even wait for a turn of the loop
        assert isinstance(exchange.lease, Slot)
        assert (exchange.queued, exchange.queue_position, exchange.queue_reason) == (0.0, None, None)
        assert h.scheduler.counts.at_once == 1


async def test_who_waits_gets_the_slot_that_is_given_back() -> None:
    async with house() as h:
        first = await (await h.one())
        second, third = await h.one(), await h.one()
        assert h.waiting == {"a": 2}
        assert not second.done()
        h.finish(first)
        await turn()
        assert second.done()
        assert not third.done()
        exchange = await second
        assert (exchange.queue_position, exchange.queue_reason) == (1, "slots")
        assert exchange.queued > 0
        h.finish(exchange)
        assert (await third).queue_position == 2
        assert (h.scheduler.counts.at_once, h.scheduler.counts.waited) == (1, 2)


async def test_as_many_go_as_there_are_slots_each_tenant_in_its_turn() -> None:
    async with house() as h:
        first = await (await h.one())
        for tenant in "aaabbc":
            await h.one(tenant)
        h.slots.count = 4
        h.finish(first)
        await turn()
        assert h.tenants == "abcab"


async def test_a_lane_that_is_full_blocks_no_other() -> None:
    async with house(10, big=0) as h:
        for _ in range(3):
            await h.one("a", "big")
        assert (await h.one("a", "small")).done()
        assert (await h.one("b", "small")).done()
        assert h.waiting == {"a": 3}


async def test_who_comes_asks_for_its_own_lane_only() -> None:
    async with house(1, m=0, n=0) as h:
        for model in ("m", "n", "m"):
            await h.one("a", model)
        h.slots.asked.clear()
        await h.one("a", "m")
        assert [waiting for _, waiting in h.slots.asked] == [3]


async def test_the_slots_are_told_how_many_wait_for_the_model() -> None:
    async with house(1, m=0, n=0) as h:
        for _ in range(3):
            await h.one("a", "m")
        await h.one("b", "n")
        h.slots.asked.clear()
        h.slots.changed()
        assert sorted(waiting for _, waiting in h.slots.asked) == [1, 3]


async def test_where_no_slot_is_free_nobody_is_asked_for_in_vain() -> None:
    async with house() as h:
        first = await (await h.one())
        for model in ("m", "n", "o"):
            await h.one("a", model)
        h.slots.asked.clear()
        h.slots.changed()
        assert h.slots.asked == []
        h.finish(first)
        assert len(h.slots.asked) == 1
        assert [exchange.queue_reason for exchange, _ in h.slots.asked] == ["slots"]


async def test_a_further_attempt_goes_before_all_who_wait() -> None:
    async with house() as h:
        first = await (await h.one())
        await h.one()
        again = asyncio.create_task(h.scheduler.again(first))
        await turn()
        assert not again.done()
        h.slots.held[0].give_back()
        await again
        assert [slot.exchange for slot in h.slots.held] == [first]
        assert h.waiting == {"a": 1}
        assert first.queued > 0


async def test_a_further_attempt_takes_a_free_slot_at_once() -> None:
    async with house(2) as h:
        first = await (await h.one())
        suppose(first, lease=None)
        await h.scheduler.again(first)
        assert first.lease is not None


async def test_a_lease_that_nobody_used_is_given_back() -> None:
    async with house() as h:
        first = await (await h.one())
        second = await h.one()
        h.scheduler.leave(first)
        assert first.lease is None
        assert (await second).lease is not None
        h.scheduler.leave(first)
        assert len(h.slots.held) == 1


async def test_what_a_request_took_is_learned() -> None:
    """`a` took four times what was expected, so that its next ones count four times, as does the first of `b`."""
    async with house() as h:
        for tenant, tokens in (("a", 40), ("b", 10)):
            first = await (await h.one(tenant))
            suppose(first, usage=Usage(tokens_in=tokens - 5, tokens_out=5))
            h.finish(first)
        await h.one("c")
        for tenant in "aaabbbbb":
            await h.one(tenant)
        for _ in range(8):
            h.finish(h.order[-1])
            await turn()
        assert h.tenants == "abc" + "ababbbba"


# Leaving


@pytest.mark.parametrize("times", [1, 2])
async def test_who_leaves_is_gone_at_once(times: int) -> None:
    async with house() as h:
        first = await (await h.one())
        leaves, stays = await h.one("a"), await h.one("b")
        for _ in range(times):
            leaves.cancel()
        await turn()
        assert leaves.cancelled()
        assert h.waiting == {"b": 1}
        assert h.scheduler.counts.dropped == {"client_gone": 1}
        h.finish(first)
        await stays
        assert len(h.slots.held) == 1


async def test_who_leaves_in_the_turn_in_which_its_slot_comes_keeps_none() -> None:
    """In either order."""
    async with house() as h:
        first = await (await h.one())
        leaves, stays = await h.one("a"), await h.one("a")
        h.finish(first)
        leaves.cancel()
        await turn()
        assert leaves.cancelled()
        second = await stays
        leaves, stays = await h.one("a"), await h.one("a")
        leaves.cancel()
        h.finish(second)
        await turn()
        assert leaves.cancelled()
        assert stays.done()
        assert len(h.slots.held) == 1


async def test_nothing_is_left_of_thousands_that_leave() -> None:
    async with house(0) as h:
        for _ in range(20):
            exchanges = [await chat() for _ in range(100)]
            tasks = [
                asyncio.create_task(h.scheduler.enter(exchange, terms(str(n % 7))))
                for n, exchange in enumerate(exchanges)
            ]
            await turn()
            for n, task in enumerate(tasks):
                task.cancel()
                if n % 3 == 0:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert h.waiting == {}
        del exchanges, tasks, task
        h.slots.asked.clear()
        await turn()
        gc.collect()
        assert not any(isinstance(found, _Waiter) for found in gc.get_objects())


# Deadlines


async def test_a_wait_has_an_end() -> None:
    async with house() as h:
        first = await (await h.one())
        waits = await h.one(wait=0.01)
        with pytest.raises(Refused) as refused:
            await waits
        error = refused.value
        assert (error.status, error.code, error.outcome) == (503, "queue_timeout", "timed_out")
        assert int(error.headers["retry-after"]) >= 1
        assert h.waiting == {}
        assert h.scheduler.counts.dropped == {"queue_timeout": 1}
        h.finish(first)
        assert h.slots.held == []


async def test_nobody_goes_after_its_deadline_however_late_the_timer() -> None:
    clock = ManualClock()
    async with house(clock=clock) as h:
        first = await (await h.one())
        late, other = await h.one("a", wait=5.0), await h.one("b", wait=20.0)
        clock.advance(5.1)
        h.finish(first)
        await turn()
        with pytest.raises(Refused) as refused:
            await late
        assert refused.value.code == "queue_timeout"
        assert (await other).queued == pytest.approx(5.1)


async def test_a_clients_deadline_leaves_time_for_the_answer() -> None:
    clock = ManualClock()
    async with house(clock=clock) as h:
        h.slots.seconds = 3.0
        first = await (await h.one())
        late = await h.one("a", deadline=clock.monotonic() + 5.0)
        clock.advance(2.5)
        h.finish(first)
        with pytest.raises(Refused):
            await late
        await h.one()
        none = await h.one("a", deadline=clock.monotonic() + 2.0)
        with pytest.raises(Refused) as refused:
            await none
        assert refused.value.code == "queue_too_slow"


async def test_a_free_slot_is_given_whatever_the_deadline() -> None:
    async with house() as h:
        h.slots.seconds = 3.0
        assert (await h.one("a", deadline=h.clock.monotonic() + 1.0)).done()


# Refusals


async def pace(h: House, clock: ManualClock, requests: int = 30, every: float = 1.0) -> Exchange:
    """Let the line move by a request of ten tokens every so many seconds; return who has the slot."""
    running = await (await h.one("p", wait=1e6))
    for _ in range(requests):
        following = await h.one("p", wait=1e6)
        clock.advance(every)
        h.finish(running)
        running = await following
    return running


async def test_who_would_wait_too_long_is_told_so_at_once() -> None:
    clock = ManualClock()
    async with house(clock=clock) as h:
        running = await pace(h, clock)
        for _ in range(9):
            await h.one("a", wait=100.0)
        outlook = h.scheduler.outlook(running, terms("a", wait=9.5))
        assert outlook.position == 10
        assert outlook.seconds == pytest.approx(10.0, rel=0.1)
        refused = outlook.refusal
        assert refused is not None
        assert (refused.status, refused.code, refused.headers) == (503, "queue_too_slow", {"retry-after": "1"})
        with pytest.raises(Refused) as raised:
            await (await h.one("a", wait=2.0))
        assert raised.value.headers == {"retry-after": "8"}
        # Another tenant's turn is much sooner.
        assert h.scheduler.outlook(running, terms("b", wait=3.0)).refusal is None
        # When it comes back after the time it was told, it may wait.
        for _ in range(8):
            clock.advance(1.0)
            h.finish(h.order[-1])
            await turn()
        assert h.scheduler.outlook(running, terms("a", wait=2.5)).refusal is None


async def served(h: House, clock: ManualClock, requests: int) -> None:
    for _ in range(requests):
        clock.advance(1.0)
        h.finish(h.order[-1])
        await turn()


async def test_of_who_asks_for_much_more_than_there_is_only_few_wait() -> None:
    """As many as there are slots, here one; they have their turn within the three seconds that a request takes."""
    clock = ManualClock()
    async with house(clock=clock) as h:
        h.slots.seconds = 3.0
        running = await pace(h, clock)
        tasks = [await h.one("a", wait=9.5) for _ in range(21)]
        assert h.waiting == {"a": 9}
        assert sum(task.done() and isinstance(task.exception(), Refused) for task in tasks) == 12
        await served(h, clock, 8)
        assert h.waiting == {"a": 1}
        refusal = h.scheduler.outlook(running, terms("a", wait=9.5)).refusal
        assert refusal is not None
        assert (refusal.code, refusal.headers) == ("queue_too_slow", {"retry-after": "1"})
        assert "most of what you ask for" in refusal.message
        await served(h, clock, 1)
        assert h.scheduler.outlook(running, terms("a", wait=9.5)).refusal is None
        for _ in range(5):
            await h.one("b", wait=9.5)
        assert h.waiting["b"] == 5  # who did not ask for too much


async def test_deferred_requests_that_find_no_slot_do_not_count_as_too_much() -> None:
    """They come again until they find one, however long that takes."""
    clock = ManualClock()
    async with house(clock=clock) as h:
        h.slots.seconds = 3.0
        running = await pace(h, clock)
        tasks = [await h.one("a", wait=9.5, deferred=True) for _ in range(21)]
        assert sum(task.done() and isinstance(task.exception(), Refused) for task in tasks) == 12
        await served(h, clock, 8)
        assert h.scheduler.outlook(running, terms("a", wait=9.5)).refusal is None


class Team:
    """Requests of one tenant that take a minute each; one that is refused is made again when it was told to be.

    Attributes:
        now: seconds since the beginning.
        braked: when one was refused because most have to be.
        let_in: how many were not refused.
    """

    def __init__(self, h: House, clock: ManualClock) -> None:
        self.now = 0
        self.braked: list[int] = []
        self.let_in = 0
        self._h = h
        self._clock = clock
        self._ends: dict[Exchange, int] = {}
        self._started = 0

    async def play(self, seconds: int, jobs: list[int], *, retries: bool = True, repeats: bool = False) -> None:
        """Let the time pass.

        Args:
            seconds: how much of it.
            jobs: seconds from now, one for each request.
            retries: whether they come back as they are told when they are refused.
            repeats: whether each that has its answer is made again at once.
        """
        due = [self.now + job for job in jobs]
        for _ in range(seconds):
            if repeats:
                due += [self.now] * sum(end <= self.now for end in self._ends.values())
            for exchange in [exchange for exchange, end in self._ends.items() if end <= self.now]:
                del self._ends[exchange]
                self._h.finish(exchange)
            await turn()
            ready, due = [at for at in due if at <= self.now], [at for at in due if at > self.now]
            told = [await self._ask() for _ in ready]
            due += [self.now + after for after in told if after is not None and retries]
            for exchange in self._h.order[self._started :]:
                self._ends[exchange] = self.now + 60
            self._started = len(self._h.order)
            self._clock.advance(1.0)
            self.now += 1

    async def _ask(self) -> int | None:
        """Make a request; return the seconds after which it may be made again, None if it was let in."""
        task = await self._h.one("team", wait=600.0)
        error = task.exception() if task.done() else None
        if not isinstance(error, Refused):
            self.let_in += 1
            return None
        assert error.code == "queue_too_slow"
        assert error.headers is not None
        if "most of what you ask for" in error.message:
            self.braked.append(self.now)
        return int(error.headers["retry-after"])


@asynccontextmanager
async def overloaded() -> AsyncIterator[tuple[House, Team]]:
    """Four slots, of which a team wants three times as much as there is, for an hour."""
    clock = ManualClock()
    async with house(4, clock=clock) as h:
        h.slots.seconds = 60.0
        team = Team(h, clock)
        await team.play(3600, list(range(0, 3600, 5)), retries=False)
        yield h, team


async def test_while_somebody_asks_for_too_much_only_few_wait() -> None:
    async with overloaded() as (h, team):
        let_in = team.let_in
        for _ in range(120):
            await team.play(15, [0, 5, 10], retries=False)
            assert h.waiting["team"] <= 4
        assert team.let_in - let_in == pytest.approx(120, abs=4)  # all slots are busy


@pytest.mark.parametrize("size", [16, 30])
async def test_who_asks_for_less_again_may_wait_again(size: int) -> None:
    """All of a line of 12, or of 26, have their turn within the ten minutes that they may wait."""
    async with overloaded() as (h, team):
        began = team.now
        await team.play(3600, [0] * (size - 8), repeats=True)  # eight are there
        assert began <= max(team.braked) < began + 900
        assert h.waiting["team"] > 8


async def test_a_burst_does_not_keep_out_those_who_come_back_when_they_are_told() -> None:
    clock = ManualClock()
    async with house(4, clock=clock) as h:
        h.slots.seconds = 60.0
        team = Team(h, clock)
        await team.play(1, [0] * 60, retries=False)
        assert team.let_in == 44
        await team.play(600, [15] * 8)
        assert 15 <= max(team.braked) < 420
        assert team.let_in == 44 + 8


async def test_who_is_in_a_hurry_does_not_ask_for_too_much() -> None:
    clock = ManualClock()
    async with house(clock=clock) as h:
        h.slots.seconds = 3.0
        running = await pace(h, clock)
        for _ in range(5):
            await h.one("a", wait=9.5)
        tasks = [await h.one("a", wait=2.9) for _ in range(20)]
        assert all(isinstance(task.exception(), Refused) for task in tasks)
        assert h.scheduler.outlook(running, terms("a", wait=9.5)).refusal is None


async def test_the_first_in_line_may_wait_whatever_was_measured() -> None:
    """Otherwise nothing would ever be measured again."""
    clock = ManualClock()
    async with house(clock=clock) as h:
        running = await pace(h, clock, every=30.0)
        assert h.scheduler.outlook(running, terms("a", wait=1.0)).refusal is None
        await h.one("a", wait=50.0)
        assert h.scheduler.outlook(running, terms("a", wait=1.0)).refusal is not None


async def test_before_anything_was_measured_the_pool_is_asked() -> None:
    async with house(2) as h:
        running = [await (await h.one()) for _ in range(2)]
        await h.one()
        assert h.scheduler.outlook(running[0], terms()).seconds is None
        h.slots.seconds = 3.0
        assert h.scheduler.outlook(running[0], terms()).seconds == 3.0


async def test_a_tenants_own_depth() -> None:
    async with house() as h:
        await h.one()
        await h.one("a", depth_per_tenant=2)
        await h.one("a", depth_per_tenant=2)
        with pytest.raises(Refused) as refused:
            await (await h.one("a", depth_per_tenant=2))
        assert (refused.value.status, refused.value.code) == (429, "tenant_queue_full")
        assert "retry-after" in refused.value.headers
        assert not (await h.one("b", depth_per_tenant=2)).done()


async def test_a_full_queue_makes_room_at_the_cost_of_who_has_most_in_it() -> None:
    async with house() as h:
        await h.one()
        flood = [await h.one("a", depth=4) for _ in range(4)]
        with pytest.raises(Refused) as refused:
            await (await h.one("a", depth=4))
        assert (refused.value.status, refused.value.code) == (503, "queue_full")
        quiet = await h.one("b", depth=4)
        assert not quiet.done()
        with pytest.raises(Refused) as refused:
            await flood[-1]
        assert (refused.value.status, refused.value.code) == (429, "queue_share_exceeded")
        assert h.waiting == {"a": 3, "b": 1}
        assert not any(task.done() for task in flood[:-1])


async def test_no_depth_is_no_queue() -> None:
    async with house() as h:
        assert (await h.one(depth=0)).done()
        with pytest.raises(Refused, match="as many as may"):
            await (await h.one(depth=0))


async def test_what_the_pool_refuses_is_that_requests_alone() -> None:
    async with house(0) as h:
        waits = [await h.one("a", model) for model in ("bad", "worse", "good")]
        h.slots.count = 1
        h.slots.broken = {"bad": Refused(503, "no backend", code=codes.NO_BACKEND), "worse": ZeroDivisionError()}
        h.slots.changed()
        await turn()
        with pytest.raises(Refused, match="no backend"):
            await waits[0]
        with pytest.raises(ZeroDivisionError):
            await waits[1]
        assert (await waits[2]).lease is not None
        assert h.scheduler.counts.dropped == {"no_backend": 1, "error": 1}


async def test_the_status() -> None:
    clock = ManualClock()
    async with house(clock=clock) as h:
        assert (h.scheduler.status().waiting, h.scheduler.status().oldest) == ({}, 0.0)
        await h.one()
        await h.one("a")
        clock.advance(3.0)
        await h.one("b")
        status = h.scheduler.status()
        assert (status.waiting, status.oldest) == ({"a": 1, "b": 1}, 3.0)


# The line of all proxies


class Line:
    """Notes that somebody waits, and how often behind others."""

    up = True

    def __init__(self, proxies: int = 1) -> None:
        self.proxies = proxies
        self.changes = self.behind = 0

    def changed(self, *, behind: bool = False) -> None:
        self.changes += 1
        self.behind += behind


async def test_other_proxies_are_told_who_waits_and_the_tenant_they_name_goes_first() -> None:
    async with house(1) as made:
        made.scheduler.line = line = Line()
        first = await made.one("a")
        assert line.changes == 0
        await made.one("a", weight=2.0)
        await made.one("a", weight=2.0)
        last = await made.one("b", priority=-1)
        assert (line.changes, line.behind) == (3, 1)
        assert made.scheduler.demands() == []  # this pool shares nothing
        made.slots.places = ("http://gpu",)
        mine, other = made.scheduler.demands()
        assert (mine.tenant, mine.waiting, mine.weight, mine.backends) == ("a", 2, 2.0, ("http://gpu",))
        assert (other.tenant, other.waiting, other.priority) == ("b", 1, -1)
        made.slots.count = 2
        made.scheduler.granted(["b"])
        await turn()
        assert last.done()
        assert made.tenants == "ab"
        made.finish(first.result())


async def test_of_many_waiters_those_are_told_whose_turn_it_is_here() -> None:
    async with house(1) as made:
        made.scheduler.line = Line()
        made.slots.places = ("http://gpu",)
        first = await made.one("served", cost=1000)
        await made.one("served")
        served = await made.one("served")
        for number in range(TOLD + 20):
            await made.one(f"low-{number}", priority=-1)
        await made.one("late", priority=1)
        await made.one("other", "n", priority=-1)
        told = [demand.tenant for demand in made.scheduler.demands()]
        assert len(told) == TOLD
        assert told[:3] == ["late", "served", "low-0"]
        assert "other" in told  # a model whose slots may be free though those of the others are not
        made.finish(first.result())
        assert not served.done()


async def test_the_more_proxies_share_the_line_the_fewer_waiters_each_tells() -> None:
    async with house(1) as made:
        first = await made.one("first")
        made.slots.places = ("http://gpu",)
        for number in range(TOLD):
            await made.one(f"t-{number}")
        for proxies, told in ((1, TOLD), (4, TOLD // 4), (TOLD, LEAST_TOLD)):
            made.scheduler.line = Line(proxies)
            assert len(made.scheduler.demands()) == told
        made.finish(first.result())


async def test_who_got_much_here_is_told_after_who_got_little() -> None:
    async with house(1) as made:
        made.scheduler.line = Line(TOLD // LEAST_TOLD)
        made.slots.places = ("http://gpu",)
        greedy = [await made.one("greedy", cost=1000) for _ in range(2)]
        for number in range(LEAST_TOLD):
            await made.one(f"t-{number}")
        told = [demand.tenant for demand in made.scheduler.demands()]
        assert (len(told), "greedy" in told) == (LEAST_TOLD, False)
        made.finish(greedy[0].result())
