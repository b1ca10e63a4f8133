"""The queue seen by clients: fair, in time under overload, and free of who left."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from itertools import chain as chained
from itertools import count
from random import Random
from typing import Any

import orjson
import pytest

from proxy.kernel.slot_scheduling import Terms
from proxy.simulator import Ollama
from proxy.testing import make_exchange
from tests.support.proxy import Running, running
from tests.support.tenants import BELIEVE, Answers, Caller, chat
from tests.support.wire import Client, ask, request

SOON = 0.25
"""Seconds within which the place of a client that left is free."""
SERVICE = 0.05
"""Seconds that a request takes at the simulated host."""


def backend(sim: Ollama, slots: int, name: str = "b1", **more: Any) -> dict[str, Any]:
    return {"name": name, "url": sim.url, "slots": slots, **more}


def chain(**queue: Any) -> list[object]:
    return ["logging", BELIEVE, {"queue": queue}, "retry"]


def waiting(proxy: Running) -> int:
    return sum(proxy.app.scheduler.status().waiting.values())


async def until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    """Let the loop run until it is so; for what tells nobody that it has changed."""
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def queued(proxy: Running, count: int) -> None:
    """Let the loop run until so many wait."""
    await until(lambda: waiting(proxy) == count)


async def stable(measure: Callable[[], Awaitable[str | None]]) -> None:
    """Measure until nothing is wrong, five times at most: something else may be running on the machine."""
    wrong = None
    for _ in range(5):
        wrong = await measure()
        if wrong is None:
            return
    raise AssertionError(wrong)


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


# Fairness


@pytest.mark.timing(reason="it compares how many requests each tenant gets in a time")
async def test_five_tenants_get_the_same_though_one_sends_a_hundred_times_as_much() -> None:
    """Jain's index of what they are given while all of them want more."""
    async with Ollama(prompt_delay=SERVICE / 2, num_parallel=4) as sim:
        async with running(backend(sim, 4), middleware=chain(depth=1000)) as proxy, AsyncExitStack() as stack:
            answers = Answers()
            callers = [Caller(proxy.address, f"t{number}", answers=answers) for number in range(5)]
            await stack.enter_async_context(callers[0].busy(200))
            await queued(proxy, 196)
            for caller in callers[1:]:
                await stack.enter_async_context(caller.busy(2))
            before = len(callers[0].answered)
            await answers.more(250)
            given = [len(callers[0].answered) - before, *(len(caller.answered) for caller in callers[1:])]
            assert sum(given) ** 2 / (5 * sum(count**2 for count in given)) >= 0.95, given


async def test_weights_are_shares() -> None:
    policies = {"heavy": {"queue": {"weight": 4}}}
    async with Ollama(prompt_delay=SERVICE / 2, num_parallel=4) as sim:
        async with running(backend(sim, 4), middleware=chain(), policies=policies) as proxy, AsyncExitStack() as stack:
            answers = Answers()
            light = Caller(proxy.address, "light", answers=answers)
            heavy = Caller(proxy.address, "heavy", {"Policy": "heavy"}, answers=answers)
            for caller in (light, heavy):
                await stack.enter_async_context(caller.busy(20))
            await answers.more(30)
            before = len(light.answered), len(heavy.answered)
            await answers.more(250)
            share = (len(heavy.answered) - before[1]) / (len(light.answered) - before[0])
            assert share == pytest.approx(4.0, rel=0.1)


async def test_a_quiet_tenant_hardly_notices_a_loud_one() -> None:
    """Its p99 is at most twice what it has alone. The loud one's requests are of all lengths, as real ones are."""

    async def measure() -> str | None:
        async with Ollama(token_delay=SERVICE / 5, num_parallel=8) as sim, AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(running(backend(sim, 8), middleware=chain(depth=1000)))
            body = chat(tokens=10)
            alone, quiet = ([Caller(proxy.address, f"q{number}", body=body) for number in range(2)] for _ in range(2))
            await asyncio.gather(*(caller.again_and_again(20) for caller in alone))
            lengths = [*range(1, 21)] * 10
            Random(1).shuffle(lengths)
            for tokens in lengths:
                await stack.enter_async_context(Caller(proxy.address, "loud", body=chat(tokens=tokens)).busy(1))
            await queued(proxy, 192)
            await asyncio.gather(*(caller.again_and_again(20) for caller in quiet))
        solo, beside = (percentile(list(chained(*(c.seconds for c in group))), 0.99) for group in (alone, quiet))
        return None if beside <= 2 * solo else f"{beside:.3f} s beside the loud one, {solo:.3f} s alone"

    await stable(measure)


async def test_higher_priorities_go_first() -> None:
    policies = {name: {"queue": {"priority": name}} for name in ("low", "high")}
    async with Ollama() as sim:
        stall = sim.fault("stall", route="/api/chat")
        async with running(backend(sim, 1), middleware=chain(), policies=policies) as proxy:
            callers = [Caller(proxy.address, "t0")]
            callers += [
                Caller(proxy.address, f"t{n}", {"Policy": name}) for n, name in enumerate(["low", "low", "high"])
            ]
            async with asyncio.TaskGroup() as tasks:
                for number, caller in enumerate(callers):
                    tasks.create_task(caller.again_and_again(1))
                    await queued(proxy, number)
                    await sim.wait_for(lambda: sim.counters.active == 1)
                stall.release()
            order = sorted(callers, key=lambda caller: caller.answered)
            assert [caller.headers.get("Policy") for caller in order] == [None, "high", "low", "low"]


# Overload


@pytest.mark.timing(reason="it measures throughput under three times the load that can be served")
async def test_three_times_what_can_be_served() -> None:
    """Open loop: goodput stays, nobody is served too late, and one service time after the load nobody waits."""
    slots, service = 4, 4 * SERVICE
    deadline = 4 * service

    async def measure() -> str | None:
        async with Ollama(prompt_delay=service, num_parallel=slots) as sim:
            async with running(backend(sim, slots), middleware=chain()) as proxy:
                peak = Caller(proxy.address, "peak")
                await asyncio.gather(*(peak.again_and_again(5) for _ in range(2 * slots)))
                rate = (len(peak.answered) - slots) / (peak.answered[-1] - peak.answered[slots - 1])
                headers = {"X-Request-Timeout": f"{deadline * 1000:.0f}ms"}
                caller = Caller(proxy.address, "all", headers)
                requests = int(3 * rate * 3)
                good = 0

                async def one() -> None:
                    nonlocal good
                    client = await Client.connect(proxy.address)
                    reply = await caller.ask(client)
                    assert reply.status in (200, 503), reply
                    good += reply.status == 200 and caller.seconds[-1] <= deadline
                    client.hang_up()

                began = time.monotonic()
                async with asyncio.TaskGroup() as tasks:
                    for number in range(requests):
                        due = began + number / (3 * rate)
                        if due > time.monotonic():
                            await asyncio.sleep(due - time.monotonic())
                        tasks.create_task(one())
                    ended = time.monotonic()
                    await queued(proxy, 0)
                    drained = time.monotonic() - ended
                    await asyncio.sleep(ended + service - time.monotonic())  # as much is promised
                    await caller.again_and_again(1)
                    after = caller.seconds[-1]
                lines = [line for line in proxy.log.requests if line["tenant"] == "all"]
        late = [line["queue_ms"] for line in lines if line["attempts"] and line["queue_ms"] > deadline * 1000]
        goodput = good / (ended - began + service)
        if late:
            return f"served behind their deadline: {late}"
        if goodput < 0.9 * rate:
            return f"goodput {goodput:.1f}/s of {rate:.1f}/s"
        if drained > 1.2 * service or after > 2 * service:  # which is its own, and what is left of who runs
            return f"{drained:.3f} s until nobody waited, then {after:.3f} s for a request"
        return None

    await stable(measure)


async def test_who_cannot_be_served_in_time_is_told_when_to_come_back() -> None:
    async with Ollama(prompt_delay=SERVICE) as sim:
        async with running(backend(sim, 1), middleware=chain(wait="10s")) as proxy:
            async with Caller(proxy.address, "a").busy(8) as caller:
                await caller.answers.more(10)
                headers = {"Tenant": "a", "X-Request-Timeout": f"{3 * SERVICE * 1000:.0f}ms"}
                reply = await ask(proxy.address, "POST", "/v1/chat/completions", chat(), headers)
        assert reply.status == 503
        assert int(reply.headers["retry-after"]) >= 1
        assert b"queue_too_slow" in reply.body


async def test_a_wait_that_is_too_long_ends_by_its_name() -> None:
    async with Ollama() as sim:
        sim.fault("stall", route="/api/chat")
        async with running(backend(sim, 1), middleware=chain(wait="50ms")) as proxy:
            first = await begin(proxy)
            await sim.wait_for(lambda: sim.counters.active == 1)
            reply = await ask(proxy.address, "POST", "/api/chat", chat())
            assert reply.status == 503
            line = await proxy.log.request()
            assert (line["error_code"], line["outcome"], line["attempts"]) == ("queue_timeout", "timed_out", 0)
            assert (line["queue_position"], line["queue_reason"]) == (1, "slots")
            assert line["queue_ms"] >= 50
            first.hang_up()


async def test_a_full_queue_has_room_for_who_is_not_in_it() -> None:
    async with Ollama() as sim:
        sim.fault("stall", route="/api/chat")
        async with running(backend(sim, 1), middleware=chain(depth=2)) as proxy:
            clients = []
            for number in range(3):
                clients.append(await begin(proxy, {"Tenant": "loud"}))
                await queued(proxy, number)
                await sim.wait_for(lambda: sim.counters.active == 1)
            assert (await ask(proxy.address, "POST", "/api/chat", chat(), {"Tenant": "loud"})).status == 503
            quiet = await begin(proxy, {"Tenant": "quiet"})
            assert (await clients[-1].read()).status == 429
            assert proxy.app.scheduler.status().waiting == {"loud": 1, "quiet": 1}
            for client in (*clients, quiet):
                client.hang_up()


# Who leaves

State = Callable[[Running, Ollama], Awaitable[Client]]


async def begin(proxy: Running, headers: dict[str, str] | None = None, **body: Any) -> Client:
    client = await Client.connect(proxy.address)
    await client.send(request("POST", "/api/chat", chat(**body), headers))
    return client


async def in_line(proxy: Running, sim: Ollama) -> Client:
    client = await begin(proxy, stream=True)
    await queued(proxy, 1)
    return client


async def in_line_for_an_answer_in_one_piece(proxy: Running, sim: Ollama) -> Client:
    client = await begin(proxy)
    await queued(proxy, 1)
    return client


async def in_line_for_a_model(proxy: Running, sim: Ollama) -> Client:
    """One slot is free, but not for this model."""
    client = await begin(proxy, model="qwen3")
    await sim.wait_for(lambda: sim.counters.active == 2)
    waits = await begin(proxy, model="qwen3")
    await queued(proxy, 1)
    client.hang_up()
    return waits


async def in_line_for_a_further_attempt(proxy: Running, sim: Ollama) -> Client:
    """The other host failed it, and this one is full."""
    client = await begin(proxy, {"Tenant": "unlucky"}, stream=True)
    await queued(proxy, 1)
    return client


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize(
    "state", [in_line, in_line_for_an_answer_in_one_piece, in_line_for_a_model, in_line_for_a_further_attempt]
)
async def test_the_place_of_who_leaves_is_free_soon(state: State, reset: bool) -> None:
    async with Ollama(num_parallel=10) as sim, Ollama() as other:
        sim.fault("stall", times=None)
        other.fault("reset", times=None)
        backends = [backend(sim, 3, model_slots={"llama3.2": 1, "qwen3": 1})]
        if state is in_line_for_a_further_attempt:
            backends.append(backend(other, 1, "b2"))
        async with running(*backends, middleware=chain(), pool={"grace": "0s"}) as proxy:
            first = await begin(proxy)
            await sim.wait_for(lambda: sim.counters.active == 1)
            client = await state(proxy, sim)
            gone = time.monotonic()
            client.hang_up(reset=reset)
            await queued(proxy, 0)
            assert time.monotonic() - gone < SOON
            await proxy.log.wait_for(lambda log: any(line["queue_ms"] for line in log.requests))
            line = next(line for line in proxy.log.requests if line["queue_ms"])
            assert line["outcome"] == "client_gone"
            assert proxy.app.scheduler.counts.dropped == {"client_gone": 1}
            first.hang_up()


async def test_nothing_is_left_of_hundreds_that_leave() -> None:
    """Some in the moment in which it is their turn."""
    async with Ollama(prompt_delay=0.002, num_parallel=2, record=0) as sim:
        async with running(backend(sim, 2), middleware=chain(depth=10_000), pool={"grace": "1ms"}) as proxy:

            async def one(number: int) -> None:
                client = await begin(proxy, {"Tenant": str(number % 5)}, stream=bool(number % 2))
                for _ in range(number % 11):
                    await asyncio.sleep(0.001)
                client.hang_up(reset=number % 3 == 0)

            for start in range(0, 800, 100):
                await asyncio.gather(*(one(number) for number in range(start, start + 100)))
            await queued(proxy, 0)
            await sim.wait_for(lambda: sim.counters.active == 0)
            await until(lambda: not proxy.app.frame.live and not proxy.app.pool.backends[0].active)
            assert (await ask(proxy.address, "POST", "/api/chat", chat())).status == 200


# Routing


async def test_a_model_whose_slots_are_taken_blocks_nobody() -> None:
    async with Ollama(num_parallel=10) as sim:
        stall = sim.fault("stall", times=1)
        async with running(backend(sim, 3, model_slots={"qwen3": 1}), middleware=chain()) as proxy:
            taken = [await begin(proxy, model="qwen3")]
            await sim.wait_for(lambda: sim.counters.active == 1)
            taken += [await begin(proxy, model="qwen3") for _ in range(5)]
            await queued(proxy, 5)
            for tenant in ("a", "b"):
                assert (await ask(proxy.address, "POST", "/api/chat", chat(), {"Tenant": tenant})).status == 200
            assert waiting(proxy) == 5
            stall.release()
            for client in taken:
                assert (await client.read()).status == 200
                client.hang_up()


async def test_a_further_attempt_goes_before_all_who_wait() -> None:
    async with Ollama() as one, Ollama() as two:
        stalls = {sim: sim.fault("stall", times=None) for sim in (one, two)}
        backends = backend(one, 1), backend(two, 1, "b2")
        async with running(*backends, middleware=chain(), pool={"spread_after": 0}) as proxy:
            clients = []
            for tenant in ("first", "second", "third", "fourth", "fifth"):
                clients.append(await begin(proxy, {"Tenant": tenant}))
                await until(lambda: one.counters.active + two.counters.active + waiting(proxy) == len(clients))
            hosts = {host.requests[0].header("tenant"): host for host in (one, two)}
            failing, full = hosts[b"second"], hosts[b"first"]
            proxy.app.pool.backends[(one, two).index(failing)].health.draining = True
            failing.drop(reset=True)
            await queued(proxy, 4)
            full.clear()
            stalls[full].release()
            for client in clients:
                assert (await client.read()).status == 200
                client.hang_up()
            tenants = [seen.header("tenant") for seen in full.seen("/api/chat")]
            assert tenants == [b"first", b"second", b"third", b"fourth", b"fifth"]
            retried = next(line for line in proxy.log.requests if line["attempts"] == 2)
            assert retried["tenant"] == "second"
            assert retried["queue_ms"] > 0


# Size


@pytest.mark.timing(reason="it measures the pace of a stream beside ten thousand waiters")
async def test_ten_thousand_waiters_do_not_slow_a_stream() -> None:
    """How long its chunks are on their way from the host to the client.

    While so many wait it is at most twice as long as with none, and while some come and go among them at most twice as
    long as while as many come and go among a hundred.
    """

    async def measure() -> str | None:
        async with Ollama(token_delay=0.004, tokens=100_000, num_parallel=10) as sim:
            async with running(backend(sim, 1), middleware=chain(depth=20_000, wait="10m")) as proxy:
                client = await begin(proxy, stream=True, tokens=100_000)
                await client.read_head()
                async with waiters(proxy) as crowd:
                    idle = await transits(client)
                    await crowd.grow(100)
                    async with crowd.changing():
                        few = await transits(client)
                    await crowd.grow(10_000)
                    many = await transits(client)
                    async with crowd.changing():
                        changing = await transits(client)
                assert waiting(proxy) == 0
                client.hang_up()
        if many > 2 * idle or changing > 2 * few:
            return f"p99 of the transits: {idle:.5f} s, then {many:.5f} s; {few:.5f} s, then {changing:.5f} s"
        return None

    await stable(measure)


async def transits(client: Client) -> float:
    """Return the p99 of the seconds from the host to the client."""
    seconds = []
    for _ in range(400):
        chunk = orjson.loads(await client.read_chunk())
        seconds.append(time.time() - datetime.fromisoformat(chunk["created_at"]).timestamp())
    return percentile(seconds, 0.99)


class Crowd:
    """Requests that wait as the queue plugin makes them, without connections."""

    def __init__(self, proxy: Running) -> None:
        self._proxy = proxy
        self._numbers = count()
        self._tasks: deque[asyncio.Task[None]] = deque()

    async def grow(self, size: int) -> None:
        """Let so many wait."""
        while len(self._tasks) < size:
            self._come()
        await queued(self._proxy, size)

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """Let the oldest leave and others come, a hundred each a second."""
        task = asyncio.create_task(self._change())
        yield
        task.cancel()

    async def leave(self) -> None:
        """Let nobody wait."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _come(self) -> None:
        self._tasks.append(asyncio.create_task(self._wait(f"t{next(self._numbers) % 500}")))

    async def _change(self) -> None:
        while True:
            self._tasks.popleft().cancel()
            self._come()
            await asyncio.sleep(0.01)

    async def _wait(self, tenant: str) -> None:
        exchange = make_exchange(body=b'{"model":"llama3.2","messages":[{}]}')
        await exchange.body()
        try:
            await self._proxy.app.scheduler.enter(exchange, Terms(tenant, 100, depth=20_000, wait=600.0))
        finally:
            self._proxy.app.scheduler.leave(exchange)


@asynccontextmanager
async def waiters(proxy: Running) -> AsyncIterator[Crowd]:
    crowd = Crowd(proxy)
    yield crowd
    await crowd.leave()
