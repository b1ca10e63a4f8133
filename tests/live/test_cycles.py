"""What a request held is freed when it ends, however it ends: nothing of ours waits for the garbage collector."""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from proxy.kernel.exchange import Exchange
from proxy.simulator import Ollama
from proxy.simulator.faults import Fault
from tests.support.backend import eventually
from tests.support.proxy import Running, running
from tests.support.websocket import hear, hear_until, say, websocket
from tests.support.wire import Client, ask, request

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": True}
EMBED: dict[str, Any] = {"model": "nomic-embed-text", "input": "hi"}
RETRY = {"retry": {"attempts": 3, "budget": "100%", "backoff": {"base": "1ms", "max": "1ms"}}}
HEDGE = {"retry": {"attempts": 1, "budget": "100%", "hedge": {"after": "20ms"}}}
IMPATIENT = {"timeouts": {"idle": "30ms"}}
FORGIVING = {"eject": {"after": 1000}}
TIMES = 10

Scenario = Callable[[Running, Ollama], Awaitable[None]]


async def answered(proxy: Running, sim: Ollama) -> None:
    assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).clean


async def refused(proxy: Running, sim: Ollama) -> None:
    assert (await ask(proxy.address, "POST", "/api/nowhere", CHAT)).status == 404


async def foreign_page(proxy: Running, sim: Ollama) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT, headers)).status == 403
    asked = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    assert (await ask(proxy.address, "OPTIONS", "/api/chat", None, asked)).status == 204


async def malformed(proxy: Running, sim: Ollama) -> None:
    async with connected(proxy) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        assert (await client.read()).status == 400


async def tried_again(proxy: Running, sim: Ollama) -> None:
    sim.fault("reset", route="/api/chat")
    assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).clean


async def tried_in_vain(proxy: Running, sim: Ollama) -> None:
    sim.fault("reset", route="/api/chat", times=None)
    assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).status == 502


async def not_http(proxy: Running, sim: Ollama) -> None:
    sim.script(b"HTTP/1.1 99 x\r\n\r\n")
    assert (await ask(proxy.address, "GET", "/api/version")).status == 502


async def cut(proxy: Running, sim: Ollama) -> None:
    sim.fault("truncate", route="/api/chat", after=2)
    assert not (await ask(proxy.address, "POST", "/api/chat", CHAT)).clean


async def stalled(proxy: Running, sim: Ollama) -> None:
    sim.fault("stall", route="/api/chat", after=2)
    assert not (await ask(proxy.address, "POST", "/api/chat", CHAT)).clean


async def spoken(proxy: Running, sim: Ollama) -> None:
    async with websocket(proxy) as socket:
        await say(socket, {**CHAT, "id": "a"})
        await hear_until(socket, "done")
        await socket.send("{")
        await hear(socket)


async def spoken_to_the_end(proxy: Running, sim: Ollama) -> None:
    sim.settings.token_delay, sim.settings.tokens = 0.005, 100_000
    async with websocket(proxy) as socket:
        await say(socket, {**CHAT, "id": "a"})
        await hear(socket)
    await eventually(lambda: not proxy.app.frame.live)


async def left(proxy: Running, sim: Ollama) -> None:
    async with streaming(proxy, sim) as client:
        client.hang_up(reset=True)


async def cancelled(proxy: Running, sim: Ollama) -> None:
    async with streaming(proxy, sim) as client:
        (request_id,) = [exchange.id for exchange in proxy.app.frame.live]
        assert proxy.app.frame.cancel(request_id, "by an operator")
        while await client.reader.read(2**16):
            pass


@dataclass
class Held:
    """A backend that answers an embedding when it is told to."""

    sim: Ollama
    fault: Fault


@asynccontextmanager
async def connected(proxy: Running) -> AsyncIterator[Client]:
    client = await Client.connect(proxy.address)
    yield client
    client.hang_up()


@asynccontextmanager
async def streaming(proxy: Running, sim: Ollama) -> AsyncIterator[Client]:
    """A client in the middle of its stream; the block ends it."""
    sim.settings.token_delay, sim.settings.tokens = 0.005, 100_000
    async with connected(proxy) as client:
        await client.send(request("POST", "/api/chat", CHAT))
        await client.read_head()
        yield client
        await eventually(lambda: not proxy.app.frame.live)


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def collected() -> Counter[str]:
    """Run the collector; return what of ours it found."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    types = [f"{type(found).__module__}.{type(found).__qualname__}" for found in gc.garbage]
    gc.garbage.clear()
    gc.collect()
    ours = [name for name in types if name.startswith(("proxy.", "middleware."))]
    return Counter(name for name in ours if not name.startswith(("proxy.simulator.", "proxy.testing.")))


@pytest.mark.parametrize(
    "scenario",
    [
        *(answered, refused, foreign_page, malformed, tried_again, tried_in_vain, not_http, cut),
        *(stalled, left, cancelled, spoken, spoken_to_the_end),
    ],
    ids=lambda scenario: scenario.__name__,
)
@pytest.mark.usefixtures("_no_collector")
async def test_nothing_is_left_to_collect(scenario: Scenario) -> None:
    # Only where a host is to fall silent: a busy machine is silent for as long now and then.
    pool = IMPATIENT if scenario is stalled else {}
    async with Ollama() as sim, running(sim.url, middleware=["logging", RETRY], pool=pool) as proxy:
        for number in range(TIMES + 1):
            await scenario(proxy, sim)
            sim.clear()
            await eventually(lambda: not proxy.app.frame.live and not proxy.server._connections())
            await asyncio.sleep(0)
            if number == 0:  # what is made once, by the first request of its kind, is not looked at
                gc.collect()
        assert collected() == {}


async def ran_later(proxy: Running, sim: Ollama) -> None:
    await kept(proxy)


async def failed_later(proxy: Running, sim: Ollama) -> None:
    sim.fault("truncate", route="/api/chat", after=2)
    await kept(proxy)


async def refused_later(proxy: Running, sim: Ollama) -> None:
    sim.fault("status", route="/api/chat", status=400)
    await kept(proxy)


async def cancelled_later(proxy: Running, sim: Ollama) -> None:
    sim.settings.token_delay, sim.settings.tokens = 0.005, 100_000
    reply = await ask(proxy.address, "POST", "/api/chat", CHAT, {"Prefer": "respond-async"})
    await eventually(lambda: sim.counters.generating == 1)
    await ask(proxy.address, "DELETE", reply.headers["location"])
    await eventually(lambda: proxy.app.runner.running == 0)


async def kept(proxy: Running) -> None:
    reply = await ask(proxy.address, "POST", "/api/chat", CHAT, {"Prefer": "respond-async"})
    await ask(proxy.address, "GET", f"{reply.headers['location']}/answer", headers={"Prefer": "wait=20"})
    await eventually(lambda: proxy.app.runner.running == 0)


@pytest.mark.parametrize(
    "scenario", [ran_later, failed_later, refused_later, cancelled_later], ids=lambda scenario: scenario.__name__
)
@pytest.mark.usefixtures("_no_collector")
async def test_nothing_is_left_to_collect_where_a_request_ran_later(scenario: Scenario) -> None:
    async with Ollama() as sim, running(sim.url, middleware=["logging", "defer", "queue", RETRY]) as proxy:
        for number in range(TIMES + 1):
            await scenario(proxy, sim)
            sim.clear()
            await eventually(lambda: not proxy.app.frame.live and not proxy.server._connections())
            await asyncio.sleep(0)
            if number == 0:
                gc.collect()
        assert collected() == {}


Hedged = Callable[[Client, Held, Held], Awaitable[None]]


async def both_asked(proxy: Running, client: Client, *sims: Ollama) -> list[Held]:
    """Ask for an embedding; return who was asked, in that order."""
    held = [Held(sim, sim.fault("stall", route="/api/embed")) for sim in sims]
    await client.send(request("POST", "/api/embed", EMBED))
    await eventually(lambda: all(one.fault.hits for one in held))
    (exchange,) = proxy.app.frame.live
    return held if exchange.tried == ("b1",) else held[::-1]


async def first_wins(client: Client, first: Held, second: Held) -> None:
    first.fault.release()
    assert (await client.read()).clean


async def second_wins(client: Client, first: Held, second: Held) -> None:
    second.fault.release()
    assert (await client.read()).clean


async def second_wins_when_the_first_has_failed(client: Client, first: Held, second: Held) -> None:
    first.sim.drop()
    await first.sim.wait_for(lambda: not first.sim.counters.active)
    second.fault.release()
    assert (await client.read()).clean


async def both_fail(client: Client, first: Held, second: Held) -> None:
    first.sim.drop()
    second.sim.drop()
    assert (await client.read()).status == 502


async def both_are_left(client: Client, first: Held, second: Held) -> None:
    client.hang_up(reset=True)


async def left_when_the_first_has_failed(client: Client, first: Held, second: Held) -> None:
    first.sim.drop()
    await first.sim.wait_for(lambda: not first.sim.counters.active)
    client.hang_up(reset=True)


@pytest.mark.parametrize(
    "scenario",
    [
        first_wins,
        second_wins,
        second_wins_when_the_first_has_failed,
        both_fail,
        both_are_left,
        left_when_the_first_has_failed,
    ],
    ids=lambda scenario: scenario.__name__,
)
@pytest.mark.usefixtures("_no_collector")
async def test_nothing_is_left_to_collect_where_two_were_asked(scenario: Hedged) -> None:
    async with Ollama() as one, Ollama() as two:
        async with running(one.url, two.url, middleware=["logging", HEDGE], pool=FORGIVING) as proxy:
            for number in range(TIMES + 1):
                async with connected(proxy) as client:
                    await scenario(client, *await both_asked(proxy, client, one, two))
                for sim in (one, two):
                    sim.clear()
                await eventually(lambda: not proxy.app.frame.live and not proxy.server._connections())
                await asyncio.sleep(0)
                if number == 0:
                    gc.collect()
            assert collected() == {}


async def test_a_connection_that_idles_keeps_nothing_of_its_last_request() -> None:
    before = exchanges()  # what other tests keep
    async with Ollama() as sim, running(sim.url) as proxy, connected(proxy) as client:
        await client.send(request("POST", "/api/chat", CHAT))
        assert (await client.read()).clean
        await proxy.log.request()
        gc.collect()
        assert exchanges() <= before


def exchanges() -> set[Exchange]:
    return {found for found in gc.get_objects() if isinstance(found, Exchange)}


@pytest.mark.parametrize("chain", [["logging"], ["logging", "queue", RETRY]], ids=["by dispatch", "by retry"])
@pytest.mark.usefixtures("_no_collector")
async def test_nothing_is_left_to_collect_where_a_request_moved(chain: list[Any]) -> None:
    async with Ollama() as one, Ollama() as two:
        async with running(one.url, two.url, middleware=chain, pool=FORGIVING) as proxy:
            backends = proxy.app.pool.backends
            for number in range(TIMES + 1):
                for sim in (one, two):
                    sim.fault("stall", route="/api/chat")
                reply = asyncio.create_task(ask(proxy.address, "POST", "/api/chat", CHAT))
                await eventually(lambda: one.counters.active + two.counters.active == 1)
                (silent,) = [backend for backend in backends if backend.awaited]
                (two if silent is backends[0] else one).clear()
                for _ in range(silent.health.rules.down_after):
                    silent.health.probe_failed(0.0, "no answer")
                proxy.app.watch._silence.look(1.0, 5.0)
                assert (await reply).clean
                silent.health.probe_succeeded(0.0)
                for sim in (one, two):
                    sim.clear()
                await eventually(lambda: not proxy.app.frame.live and not proxy.server._connections())
                await eventually(lambda: not one.counters.active + two.counters.active)
                if number == 0:
                    gc.collect()
            assert collected() == {}
