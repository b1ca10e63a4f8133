"""Where models are loaded: a trace replayed against the pool, one host that could hold all, and round robin.

Eight models, three hosts that hold two each. Hosts throw out the model that was used longest ago, as Ollama does; the
pool knows of it only what its own requests and a look every few seconds tell.
"""

import heapq
import random
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.kernel.exchange import Exchange
from proxy.pool.lease import Lease
from proxy.pool.residency import Resident
from proxy.testing import make_exchange
from tests.support.options import make_backend, make_pool

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "several-hosts.md"
MODELS = [f"m{number}" for number in range(8)]
REQUESTS = 3000
HELD = 2


@dataclass(frozen=True)
class Event:
    at: float
    model: str
    takes: float


def trace(seed: int) -> Iterator[Event]:
    """Requests in bursts of one model, popular models more often, some at the same time."""
    rng = random.Random(seed)
    weights = [1 / (rank + 1) for rank in range(len(MODELS))]
    at = 0.0
    model = MODELS[0]
    for _ in range(REQUESTS):
        at += rng.expovariate(2.0)
        if rng.random() < 0.3:
            model = rng.choices(MODELS, weights)[0]
        yield Event(at, model, rng.uniform(0.5, 2.0))


@dataclass
class Host:
    """What a host really holds. It throws out what nobody uses now before what somebody does, as Ollama's scheduler."""

    room: int
    held: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """How many use each model now; the one that was used last stands last."""
    reloads: int = 0
    served: int = 0

    def begin(self, model: str) -> None:
        self.served += 1
        if model not in self.held:
            self.reloads += 1
            while len(self.held) >= self.room:
                idle = (held for held, users in self.held.items() if not users)
                del self.held[next(idle, next(iter(self.held)))]
        self.held[model] = self.held.get(model, 0) + 1
        self.held.move_to_end(model)

    def end(self, model: str) -> None:
        if self.held.get(model):
            self.held[model] -= 1
            self.held.move_to_end(model)


def serve(hosts: Sequence[Host], seed: int, place: Callable[[int, Event], int]) -> None:
    """Let `hosts` serve the trace, each request at the one that `place` says."""
    running: list[tuple[float, int, int, str]] = []
    for number, event in enumerate(trace(seed)):
        while running and running[0][0] <= event.at:
            _, _, at, model = heapq.heappop(running)
            hosts[at].end(model)
        at = place(number, event)
        hosts[at].begin(event.model)
        heapq.heappush(running, (event.at + event.takes, number, at, event.model))


def reloads_of_one(seed: int) -> int:
    host = Host(room=3 * HELD)
    serve([host], seed, lambda number, event: 0)
    return host.reloads


def reloads_of_round_robin(seed: int) -> int:
    hosts = [Host(HELD) for _ in range(3)]
    serve(hosts, seed, lambda number, event: number % 3)
    return sum(host.reloads for host in hosts)


async def replay(seed: int) -> list[Host]:
    """Send the trace through a pool; a request holds its lease for as long as it takes."""
    random.seed(seed)  # ties
    hosts = {f"b{number}": Host(HELD) for number in range(3)}
    backends = [make_backend(name, f"http://127.0.0.1:{number}") for number, name in enumerate(hosts, 1)]
    pool = make_pool(backends, grace=0.0)
    for backend in backends:
        backend.models = {key(model): {} for model in MODELS}
    running: list[tuple[float, int, Exchange, Lease]] = []
    next_look = 0.0
    for number, event in enumerate(trace(seed)):
        while running and running[0][0] <= event.at:
            _, _, exchange, lease = heapq.heappop(running)
            with lease:
                pool.outcomes.finished(exchange, lease, None)
            assert exchange.model is not None
            hosts[lease.backend.name].end(exchange.model.model)
        if event.at >= next_look:
            next_look = event.at + 5.0
            for backend in backends:
                backend.residency.saw({key(model): Resident() for model in hosts[backend.name].held})
        exchange = await chat(event.model)
        lease = pool.lease(exchange)
        hosts[lease.backend.name].begin(event.model)
        lease.first_byte()
        heapq.heappush(running, (event.at + event.takes, number, exchange, lease))
    for _, _, _, lease in running:
        lease.give_back()
    return list(hosts.values())


def key(model: str) -> str:
    return f"registry.ollama.ai/library/{model}:latest"


async def chat(model: str) -> Exchange:
    exchange = make_exchange(body=b'{"model":"%s","messages":[{"role":"system","content":""}]}' % model.encode())
    await exchange.body()
    return exchange


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_reloads(seed: int) -> None:
    hosts = await replay(seed)
    reloads = sum(host.reloads for host in hosts)
    most = max(host.served for host in hosts)
    one, many = reloads_of_one(seed), reloads_of_round_robin(seed)
    per_thousand = [f"{1000 * count / REQUESTS:.0f}" for count in (reloads, one, many)]
    print("reloads per 1,000 requests: {}, one host of six models {}, round robin {}".format(*per_thousand))
    print(f"the busiest host served {most / (REQUESTS / 3):.2f} times the mean")
    guide = GUIDE.read_text()
    for row, count in (("this", reloads), ("one host", one), ("round robin", many)):
        said = re.search(rf"^\| {row}.* \| (\d+) to (\d+) \|$", guide, re.M)
        assert said is not None
        assert int(said[1]) - 1 <= 1000 * count / REQUESTS <= int(said[2]) + 1
    assert "No host got more than 1.28 times the mean" in guide
    assert most <= 1.285 * REQUESTS / 3
    assert reloads <= 1.3 * one
    assert reloads <= 0.4 * many
    assert most <= 1.5 * REQUESTS / 3
