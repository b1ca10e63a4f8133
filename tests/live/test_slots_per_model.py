"""How many requests of a model run at once: named or learned, without anybody waiting unseen inside Ollama."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from proxy.simulator import Ollama
from proxy.testing.log_lines import LogLines
from tests.support.backend import eventually
from tests.support.proxy import Running, running
from tests.support.tenants import BELIEVE, Answers, Caller, chat
from tests.support.wire import Client, ask, request

LLAMA = "registry.ollama.ai/library/llama3.2:latest"
CHAIN: list[Any] = ["logging", BELIEVE, {"queue": {"wait": "30s"}}]
EMBED: dict[str, Any] = {"model": "nomic-embed-text", "input": "hi"}


def waiting(proxy: Running) -> int:
    return sum(proxy.app.scheduler.status().waiting.values())


def limit(proxy: Running, model: str = LLAMA) -> int | None:
    runs = proxy.app.pool.backends[0].parallel.of(model)
    return runs.limit if runs is not None else None


async def learned(proxy: Running, parallel: int, answers: Answers) -> None:
    """Wait until it is known that the host runs so many at once."""
    async with asyncio.timeout(60):
        while limit(proxy) != parallel:
            await answers.more(1)


async def begin(proxy: Running, body: dict[str, Any], path: str = "/api/chat") -> Client:
    client = await Client.connect(proxy.address)
    await client.send(request("POST", path, body))
    return client


@asynccontextmanager
async def watching(sim: Ollama, measure: Callable[[], int]) -> AsyncIterator[Callable[[], int]]:
    """Yield a function that returns the most that `measure` came to since, after any change of the simulator."""
    most = 0

    def note() -> bool:
        nonlocal most
        most = max(most, measure())
        return False

    task = asyncio.create_task(sim.wait_for(note, timeout=60.0))
    try:
        yield lambda: most
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def unseen(sim: Ollama, parallel: int) -> Callable[[], int]:
    """Requests beyond those that one model runs, which wait inside Ollama."""
    return lambda: max(0, sim.counters.waiting + sim.counters.generating - parallel)


@asynccontextmanager
async def busy(proxy: Running, clients: int = 8) -> AsyncIterator[Answers]:
    caller = Caller(proxy.address, "t", body=chat(tokens=4, stream=True))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(caller.busy(clients))
        yield caller.answers


# Named


async def test_each_model_has_its_slots_and_two_models_run_side_by_side() -> None:
    async with Ollama(token_delay=0.005, tokens=100_000) as sim:
        host = {"name": "b1", "url": sim.url, "slots_per_model": 1}
        async with running(host, middleware=CHAIN) as proxy:
            clients = [await begin(proxy, chat(model, tokens=90_000, stream=True)) for model in ("llama3.2", "qwen3")]
            await sim.wait_for(lambda: sim.counters.generating == 2)
            clients.append(await begin(proxy, chat(stream=True)))
            await eventually(lambda: waiting(proxy) == 1)
            assert sim.counters.requests == 2
            clients[0].hang_up()
            assert (await clients[2].read()).clean
            for client in clients:
                client.hang_up()


async def test_slots_bound_what_the_models_run_together() -> None:
    async with Ollama(token_delay=0.005, tokens=100_000, num_parallel=2) as sim:
        host = {"name": "b1", "url": sim.url, "slots": 3, "slots_per_model": 2}
        async with running(host, middleware=CHAIN) as proxy:
            models = ("llama3.2", "llama3.2", "llama3.2", "qwen3", "qwen3")
            clients = [await begin(proxy, chat(model, tokens=90_000, stream=True)) for model in models]
            await eventually(lambda: waiting(proxy) == 2)
            await sim.wait_for(lambda: sim.counters.generating == 3)
            for client in clients:
                client.hang_up()
            await eventually(lambda: not proxy.app.pool.backends[0].active)


# Learned


@pytest.mark.parametrize("parallel", [1, 2, 4])
async def test_how_many_run_is_learned_and_what_is_beyond_waits_in_the_proxy(parallel: int) -> None:
    async with Ollama(prompt_delay=0.005, token_delay=0.005, num_parallel=parallel) as sim:
        async with running(sim.url, middleware=CHAIN) as proxy, busy(proxy) as answers:
            await learned(proxy, parallel, answers)
            await sim.wait_for(lambda: unseen(sim, parallel)() == 0)  # what was sent before that was learned
            async with watching(sim, unseen(sim, parallel)) as most, watching(sim, lambda: waiting(proxy)) as line:
                await answers.more(20 * parallel)
            assert most() <= 2  # one by which it finds out whether more run, and one on its way
            assert line() >= 8 - parallel - 1


@pytest.mark.timing(reason="it learns from waits of a few milliseconds, which a busy machine makes longer")
async def test_a_host_that_comes_back_with_another_setting_is_learned_anew() -> None:
    async with Ollama(prompt_delay=0.005, token_delay=0.005) as sim:
        async with running(sim.url, middleware=CHAIN) as proxy:
            for parallel in (1, 4, 2):
                await sim.wait_for(lambda: sim.counters.active == 0)
                sim.engine.unload_all()
                sim.settings.num_parallel = parallel
                async with busy(proxy) as answers:
                    await learned(proxy, parallel, answers)


async def test_nobody_is_refused_for_what_was_learned_where_nothing_queues() -> None:
    async with Ollama(prompt_delay=0.01) as sim:
        async with running(sim.url) as proxy:
            async with busy(proxy) as answers:
                await learned(proxy, 1, answers)
            replies = await asyncio.gather(*(ask(proxy.address, "POST", "/api/chat", chat()) for _ in range(6)))
            assert [reply.status for reply in replies] == [200] * 6


async def test_a_model_that_runs_as_many_as_it_can_blocks_no_other_one() -> None:
    async with Ollama(prompt_delay=0.002) as sim, running(sim.url, middleware=CHAIN) as proxy:
        async with busy(proxy) as answers:
            await learned(proxy, 1, answers)
        stall = sim.fault("stall", times=None, when=lambda seen: b"llama3.2" in seen.body)
        taken = [await begin(proxy, chat(stream=True)) for _ in range(6)]
        await eventually(lambda: waiting(proxy) >= 4)
        assert (await ask(proxy.address, "POST", "/api/chat", chat("qwen3"))).status == 200
        assert waiting(proxy) >= 4
        stall.release()
        for client in taken:
            assert (await client.read()).clean
            client.hang_up()


# Embeddings


async def test_embeddings_of_a_model_are_made_one_at_a_time_beside_chats() -> None:
    async with Ollama(embed_delay=0.01, num_parallel=4, token_delay=0.005, tokens=100_000) as sim:
        async with running(sim.url, middleware=CHAIN, watched=True) as proxy:
            await eventually(lambda: proxy.app.pool.backends[0].version is not None)
            talking = await begin(proxy, chat(tokens=90_000, stream=True))
            await sim.wait_for(lambda: sim.counters.generating == 1)
            replies = await asyncio.gather(*(ask(proxy.address, "POST", "/api/embed", EMBED) for _ in range(8)))
            assert [reply.status for reply in replies] == [200] * 8
            assert sim.counters.max_generating == 2  # the chat, and one of them
            talking.hang_up()


# Clients that leave before their answer begins


def departures(log: LogLines) -> int:
    return sum(line["outcome"] == "client_gone" for line in log.requests)


async def leave(proxy: Running, sim: Ollama, *, batch: float, path: str = "/api/chat") -> None:
    """Let a client leave while its prompt is read, which goes on for `batch` seconds."""
    usual, sim.settings.prompt_delay = sim.settings.prompt_delay, batch
    client = await begin(proxy, chat(stream=True), path)
    await sim.wait_for(lambda: sim.counters.generating == 1)
    sim.settings.prompt_delay = usual
    gone = departures(proxy.log)
    client.hang_up()
    await proxy.log.wait_for(lambda log: departures(log) > gone)


async def test_the_next_request_waits_in_the_proxy_until_the_runner_is_free() -> None:
    """After it was seen once how long the runner goes on with a request whose client left."""
    async with Ollama(prompt_delay=0.005, cancel="next_token") as sim:
        host = {"name": "b1", "url": sim.url, "slots_per_model": 1}
        async with running(host, middleware=CHAIN, pool={"grace": "50ms"}) as proxy:
            for _ in range(3):
                await ask(proxy.address, "POST", "/api/chat", chat(stream=True))
            queued = []
            for _ in range(2):
                await leave(proxy, sim, batch=1.0)
                assert (await ask(proxy.address, "POST", "/api/chat", chat(stream=True))).clean
                await proxy.log.wait_for(lambda log: log.requests[-1]["outcome"] == "completed")
                queued.append(proxy.log.requests[-1]["queue_ms"])
            assert queued[1] > 4 * queued[0]
            assert proxy.app.pool.backends[0].active == 0


async def test_while_a_slot_is_held_another_host_that_is_free_gets_the_request() -> None:
    async with Ollama(cancel="next_token") as one, Ollama(token_delay=0.005, tokens=100_000) as two:
        hosts = [{"name": f"b{n}", "url": sim.url, "slots_per_model": 1} for n, sim in enumerate((one, two), 1)]
        async with running(*hosts, middleware=CHAIN, pool={"grace": "60s"}) as proxy:
            for number in (1, 2):
                path = f"/-/backends/b{number}/api/chat"
                assert (await ask(proxy.address, "POST", path, chat(stream=True))).clean
            other = await begin(proxy, chat(tokens=90_000, stream=True), "/-/backends/b2/api/chat")
            await other.read_head()  # who leaves before it keeps the slot for a while
            await leave(proxy, one, batch=1.0, path="/-/backends/b1/api/chat")
            client = await begin(proxy, chat(stream=True))
            await eventually(lambda: waiting(proxy) == 1)
            other.hang_up()
            assert (await client.read()).clean
            await proxy.log.wait_for(lambda log: log.requests[-1]["outcome"] == "completed")
            assert proxy.log.requests[-1]["backend"] == "b2"
            assert [backend.active for backend in proxy.app.pool.backends] == [1, 0]
            client.hang_up()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_a_tool_call_that_was_held_back_does_not_say_when_it_began_to_run(path: str) -> None:
    """Ollama sends nothing of it before its last token, as it would where the request had waited inside it."""
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    body = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    async with Ollama() as sim, running(sim.url, middleware=CHAIN) as proxy:
        (backend,) = proxy.app.pool.backends
        await ask(proxy.address, "POST", path, body)  # loads the model
        called = await ask(proxy.address, "POST", path, {**body, "tools": [tool]})
        assert b'"tool_calls"' in called.body
        assert backend.first_byte is None
        sim.settings.call_tools = False
        await ask(proxy.address, "POST", path, {**body, "tools": [tool]})
        assert backend.first_byte is not None
