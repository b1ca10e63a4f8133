"""Three hosts killed, restarted, stalled, slowed, made to answer errors and cut off, under two hundred clients.

Seeded: what happens to the hosts is the same in every run. ``CHAOS_SECONDS`` makes it longer, ``CHAOS_SEED`` another.

What must hold: a request fails before its first byte only if no host was capable of it all the time it took, or two
hosts broke off under it, one after the other. No client takes a cut answer for a whole one. Nothing is left over. And
while nobody can answer, the attempts stay bounded.

Hosts, proxy and clients share one loop. Where the machine does something else for so long that it falls behind, nobody
is capable of answering in time; such failures are counted apart.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import pytest

from bench.storm.clients import REQUESTS, THINKING
from proxy.simulator import Fault as SimulatedFault
from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.proxy import Running, running
from tests.support.wire import Client, Reply, request

SECONDS: Final = float(os.environ.get("CHAOS_SECONDS", "20"))
SEED: Final = int(os.environ.get("CHAOS_SEED", "1"))
CLIENTS: Final = 200
LATE: Final = 0.25
"""Seconds; what everybody does together takes about half of that at most where nothing else runs."""
STARVED: Final = "failed while the machine did something else"
EMPTY: Final = "empty, as it came"
LOST_TWICE: Final = "lost at two hosts, so that it may be what breaks them"
GENERATIONS: Final = frozenset(path for path, _ in REQUESTS if path not in ("/api/show", "/api/embed"))
INFERENCE: Final = frozenset(path for path, _ in REQUESTS if path != "/api/show")
TELLING: Final = (
    "time", "route", "status", "error_code", "backend", "reason", "attempts", "gave_up", "queue_ms", "total_ms",
)  # fmt: skip
"""What the log says of a request that failed, for whoever has to find out why."""
TERMINATORS: Final = (b'"done":true', b'"error":', b"data: [DONE]", b"message_stop", b"event: error")
POOL: Final = {
    "timeouts": {"connect": "500ms", "load": "1500ms", "first_byte": "1500ms", "idle": "1500ms", "manage": "1500ms"},
    "health": {"every": "500ms", "timeout": "2s", "down_after": 2},
    "eject": {"for": "1s", "ramp": "1s"},
    "grace": "20ms",
}
CHAIN: Final[list[Any]] = ["logging", "queue", {"retry": {"attempts": 4}}]


@dataclass
class Host:
    """A simulated host, and when it was capable of answering."""

    sim: Ollama
    sick: list[tuple[float, float]] = field(default_factory=list)
    """From when to when it was not; the last one may not be over (inf)."""

    def capable(self, began: float, ended: float) -> bool:
        return not any(start < ended and began < end for start, end in self.sick)

    async def strike(self, how: "Fault") -> None:
        self.sick.append((time.monotonic(), float("inf")))
        await how(self.sim)

    async def heal(self) -> None:
        sim = self.sim
        sim.clear()
        sim.settings.prompt_delay, sim.settings.token_delay = 0.0, TOKEN_DELAY
        await sim.accept()
        self.sick[-1] = (self.sick[-1][0], time.monotonic())


Fault = Callable[[Ollama], Awaitable[None]]
ENDED: Final[list[SimulatedFault]] = []
"""The faults by which a host ended answers cleanly before their first byte."""
TOKEN_DELAY: Final = 0.01
rng = random.Random(SEED)


async def killed(sim: Ollama) -> None:
    await sim.stop()


async def refusing(sim: Ollama) -> None:
    await sim.refuse()


async def unreachable(sim: Ollama) -> None:
    await sim.blackhole()
    sim.drop()


async def stalled(sim: Ollama) -> None:
    sim.fault("stall", times=None)


async def stalled_in_inference(sim: Ollama) -> None:
    sim.fault("stall", times=None, when=lambda seen: seen.route in INFERENCE)


async def stalled_in_the_stream(sim: Ollama) -> None:
    sim.fault("stall", times=None, after=2, when=lambda seen: seen.route in INFERENCE and rng.random() < 0.3)


async def slowed(sim: Ollama) -> None:
    sim.settings.prompt_delay, sim.settings.token_delay = 0.6, 0.1


def answering(status: int, message: str) -> Fault:
    async def answer(sim: Ollama) -> None:
        sim.fault("status", status=status, message=message, times=None, when=lambda seen: seen.route in INFERENCE)

    return answer


async def busy(sim: Ollama) -> None:
    sim.fault("busy", times=None, when=lambda seen: seen.route in INFERENCE)


def cut(kind: Any) -> Fault:
    async def strike(sim: Ollama) -> None:
        after = rng.randrange(4)
        fault = sim.fault(
            kind, after=after, times=None, when=lambda seen: seen.route in INFERENCE and rng.random() < 0.5
        )
        if kind == "end" and not after:
            ENDED.append(fault)

    return strike


async def dropped(sim: Ollama) -> None:
    sim.drop(reset=rng.random() < 0.5)


FAULTS: Final[list[Fault]] = [
    killed, refusing, unreachable, stalled, stalled_in_inference, stalled_in_the_stream, slowed, busy, dropped,
    answering(500, "out of memory"), answering(503, "unavailable"), answering(404, "model not found"),
    cut("reset"), cut("close"), cut("truncate"), cut("end"), cut("error"), cut("junk"),
]  # fmt: skip


class Caller:
    """One client: asks again and again, and notes what it must not see."""

    def __init__(
        self, proxy: Running, hosts: list[Host], seen: Counter[str], wrong: list[str], loop: "Loop | None" = None
    ) -> None:
        self._loop = loop or Loop()
        self._proxy = proxy
        self._hosts = hosts
        self._seen = seen
        self._wrong = wrong
        self._client: Client | None = None

    async def ask_until(self, end: float) -> None:
        while time.monotonic() < end:
            await self.ask(*random.choice(REQUESTS))
            await asyncio.sleep(random.uniform(*THINKING))
        await self.leave()

    async def leave(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def ask(self, path: str, body: dict[str, Any]) -> None:
        began = time.monotonic()
        if self._client is None:
            self._client = await Client.connect(self._proxy.address)
        reply: Reply | None = None
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._client.send(request("POST", path, body))
            reply = await self._client.read(timeout=30.0)
        if reply is None or not reply.clean:
            await self.leave()
        self._judge(path, reply, began)

    def _judge(self, path: str, reply: Reply | None, began: float) -> None:
        ended = time.monotonic()
        if reply is None or reply.status != 200:
            status = "nothing" if reply is None else f"{reply.status} {reply.body.decode()[:200]}"
            if self._loop.was_late(began, ended):
                self._seen[STARVED] += 1
            elif b"it is sent to no other one" in (b"" if reply is None else reply.body):
                self._seen[LOST_TWICE] += 1
            elif any(host.capable(began, ended) for host in self._hosts):
                self._wrong.append(f"{path} failed after {ended - began:.2f} s, {time.strftime('%X')}: {status}")
            self._seen["failed"] += 1
        elif not reply.clean:
            self._seen["cut, and seen to be"] += 1
        elif not reply.body and path in GENERATIONS:
            self._seen[EMPTY] += 1  # a clean end before the first byte: so Ollama's guard ends some
        elif not whole(reply):
            self._wrong.append(f"{path} looks whole and is not: {reply.body[-200:]!r}")
        else:
            self._seen["whole"] += 1


def whole(reply: Reply) -> bool:
    """Whether an answer that ended as HTTP says has everything that belongs to it."""
    kind = reply.headers["content-type"]
    if kind.startswith(("application/x-ndjson", "text/event-stream")):
        return any(terminator in reply.body[-2000:].replace(b'": ', b'":') for terminator in TERMINATORS)
    try:
        return isinstance(orjson.loads(reply.body), dict)
    except orjson.JSONDecodeError:
        return False


async def torment(hosts: list[Host], until: float, log: list[str]) -> None:
    """Strike two of the three at a time, never the one that everybody has to fall back on; that one changes."""
    while time.monotonic() < until:
        spared = rng.randrange(len(hosts))
        victims = [host for number, host in enumerate(hosts) if number != spared]
        for host in rng.sample(victims, rng.choice((1, 2, 2))):
            how = rng.choice(FAULTS)
            log.append(f"{time.strftime('%X')} b{hosts.index(host) + 1} {getattr(how, '__qualname__', how)}")
            await host.strike(how)
            await asyncio.sleep(rng.uniform(0.3, 1.2))
        await asyncio.sleep(rng.uniform(0.2, 1.0))
        for host in victims:
            if host.sick and host.sick[-1][1] == float("inf"):
                await host.heal()
        # The next one to fall back on has to be known to be well: an ejected one is, once it has served a request.
        await asyncio.sleep(rng.uniform(1.5, 2.5))


class Loop:
    """How late the loop was, seconds, and from when to when it was so late that nobody could answer in time."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._late: list[tuple[float, float]] = []

    async def watch(self, until: float) -> None:
        while (began := time.monotonic()) < until:
            await asyncio.sleep(0.05)
            ended = time.monotonic()
            late = ended - began - 0.05
            self.worst = max(self.worst, late)
            if late > LATE:
                self._late.append((began, ended))

    def was_late(self, began: float, ended: float) -> bool:
        return any(start < ended and began < end for start, end in self._late)


@asynccontextmanager
async def three_hosts() -> AsyncIterator[tuple[list[Host], Running]]:
    rng.seed(SEED)
    ENDED.clear()
    async with AsyncExitStack() as stack:
        sims = [
            await stack.enter_async_context(
                Ollama(tokens=8, token_delay=TOKEN_DELAY, num_parallel=CLIENTS, seed=seed, record=0)
            )
            for seed in range(3)
        ]
        entries = [{"name": f"b{n}", "url": sim.url, "slots": CLIENTS} for n, sim in enumerate(sims, 1)]
        proxy = await stack.enter_async_context(running(*entries, watched=True, pool=POOL, middleware=CHAIN))
        await eventually(lambda: all(backend.seen_at is not None for backend in proxy.app.pool.backends))
        yield [Host(sim) for sim in sims], proxy


async def nothing_is_left(hosts: list[Host], proxy: Running) -> None:
    pool, frame = proxy.app.pool, proxy.app.frame
    await eventually(lambda: not frame.live and not proxy.app.scheduler.status().waiting)
    await eventually(lambda: not any(backend.leases or backend.active for backend in pool.backends))
    for backend in pool.backends:
        assert not backend.loading
        assert not backend.active_by_model
        await eventually(lambda: backend.transport.open == backend.transport.idle)  # type: ignore[attr-defined]  # noqa: B023
    assert frame._bodies.held == 0
    for host in hosts:
        await host.sim.wait_for(lambda host=host: host.sim.counters.active == 0)  # type: ignore[misc]


@pytest.mark.timing(reason="hosts, proxy and two hundred clients have time-outs of a second, on one loop")
@pytest.mark.timeout(SECONDS + 60)
async def test_nobody_notices_while_one_host_lives() -> None:
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    events: list[str] = []
    async with three_hosts() as (hosts, proxy):
        end = time.monotonic() + SECONDS
        loop = Loop()
        callers = [Caller(proxy, hosts, seen, wrong, loop) for _ in range(CLIENTS)]
        async with asyncio.TaskGroup() as tasks:
            for caller in callers:
                tasks.create_task(caller.ask_until(end))
            tasks.create_task(torment(hosts, end, events))
            tasks.create_task(loop.watch(end))
        await nothing_is_left(hosts, proxy)
        lines = proxy.log.requests
        attempts = sum(line["attempts"] for line in lines)
        outcomes = Counter(line["outcome"] for line in lines)
        print(
            f"{SECONDS:.0f} s, seed {SEED}: {len(lines)} requests, {attempts} attempts, {dict(seen)}, "
            f"{dict(outcomes)}, the loop was {loop.worst:.2f} s late at worst"
        )
    failed = [
        " ".join(f"{name}={line.get(name)}" for name in TELLING) for line in lines if line["status"] not in (200, None)
    ]
    assert not wrong, "\n".join([*wrong[:20], f"{len(wrong)} in all", *failed[:20], *events])
    assert seen[STARVED] < 0.01 * len(lines)
    assert seen[LOST_TWICE] < 0.01 * len(lines)
    assert seen["whole"] > 10 * SECONDS
    assert seen[EMPTY] <= sum(fault.hits for fault in ENDED)
    assert attempts <= 1.2 * len(lines) + 110


@pytest.mark.timing(reason="hosts that are well again must serve two hundred clients within time-outs of a second")
@pytest.mark.parametrize(
    "how", [killed, answering(500, "out of memory"), stalled_in_inference], ids=["killed", "500", "stalled"]
)
async def test_while_all_are_dead_attempts_are_bounded_and_then_it_goes_on_at_once(how: Fault) -> None:
    seen: Counter[str] = Counter()
    async with three_hosts() as (hosts, proxy):
        for host in hosts:
            await host.strike(how)
        began = time.monotonic()
        callers = [Caller(proxy, hosts, seen, []) for _ in range(CLIENTS)]
        for _ in range(4):
            await asyncio.gather(*(caller.ask(*REQUESTS[0]) for caller in callers))
        lines = proxy.log.requests
        attempts = sum(line["attempts"] for line in lines)
        assert len(lines) == 4 * CLIENTS
        assert seen == {"failed": len(lines)}
        # Those that run when it begins may try again once; after that a share of a fifth, and one a second.
        assert attempts <= 1.2 * len(lines) + CLIENTS + 10 + time.monotonic() - began
        assert sum(not backend.health.draining for backend in proxy.app.pool.backends) == 3
        for host in hosts:
            await host.heal()
        await callers[0].ask(*REQUESTS[0])
        await asyncio.gather(*(caller.ask(*REQUESTS[0]) for caller in callers[1:]))
        assert seen["whole"] == CLIENTS
        for caller in callers:
            await caller.leave()
        await nothing_is_left(hosts, proxy)
