import asyncio
import ssl

import pytest

from proxy.simulator import Model, Ollama, Settings
from tests.proxy.simulator.client import Wire, ask, chat, encode


async def test_requests_are_kept_as_they_came() -> None:
    async with Ollama() as sim:
        await ask(sim, "POST", "/api/show?x=%31", b'{"model":"LLAMA3.2"}', "X-One: 1", "x-one: 2")
        request = sim.last
        assert (request.id, request.method, request.target, request.path) == (
            1,
            "POST",
            b"/api/show?x=%31",
            "/api/show",
        )
        assert [pair for pair in request.headers if pair[0].lower() == b"x-one"] == [(b"X-One", b"1"), (b"x-one", b"2")]
        assert (request.body, request.complete, request.json()) == (
            b'{"model":"LLAMA3.2"}',
            True,
            {"model": "LLAMA3.2"},
        )
        assert (request.route, request.model) == ("/api/show", "registry.ollama.ai/library/llama3.2:latest")
        assert (request.status, request.state, request.fault) == (200, "done", None)
        assert sim.seen("/api/show") == [request]
        assert sim.counters.by_route == {"/api/show": 1}


async def test_counters_of_a_stream() -> None:
    async with Ollama() as sim:
        streamed, whole = chat(7), chat(5, stream=False)
        answers = [await ask(sim, "POST", "/api/chat", body) for body in (streamed, whole)]
        counters = sim.counters
        assert (counters.requests, counters.connections, counters.loads) == (2, 2, 1)
        assert counters.tokens_generated == counters.tokens_delivered == 12
        assert [request.tokens for request in sim.requests] == [7, 5]
        assert counters.bytes_in == sum(len(encode("POST", "/api/chat", body)) for body in (streamed, whole))
        assert counters.bytes_out > sum(len(answer.body) for answer in answers)
        await sim.wait_for(lambda: counters.active == counters.connections_open == 0)


async def test_active_requests_and_their_maximum() -> None:
    async with Ollama(num_parallel=2, token_delay=60) as sim:
        wires = [await Wire.open(sim) for _ in range(5)]
        for wire in wires:
            await wire.send(encode("POST", "/api/chat", chat()))
        await sim.wait_for(lambda: (sim.counters.generating, sim.counters.waiting) == (2, 3))
        assert sim.counters.active == 5
        for wire in wires:
            wire.hang_up()
        await sim.wait_for(lambda: sim.counters.active == 0)
        assert (sim.counters.max_active, sim.counters.max_generating, sim.counters.cancelled) == (5, 2, 5)


async def test_tokens_nobody_got_are_generated_but_not_delivered() -> None:
    async with Ollama(token_delay=0.001) as sim, await Wire.open(sim) as wire:
        await wire.send(encode("POST", "/api/chat", chat(100_000, stream=False)))
        await sim.wait_for(lambda: sim.counters.tokens_generated > 5)
        wire.hang_up()
        await sim.wait_for(lambda: sim.counters.cancelled == 1)
        assert (sim.counters.tokens_delivered, sim.last.tokens) == (0, 0)


async def test_stopping_resets_everybody_and_forgets_what_was_in_memory() -> None:
    async with Ollama(token_delay=60) as sim, await Wire.open(sim) as wire:
        await wire.send(encode("POST", "/api/chat", chat()))
        await sim.wait_for(lambda: sim.counters.generating == 1)
        await sim.stop()
        with pytest.raises(ConnectionResetError):
            await wire.rest()
        counters = sim.counters
        assert (counters.active, counters.connections_open, counters.generating, counters.cancelled) == (0, 0, 0, 0)
        assert (sim.engine.loaded, sim.last.state) == ({}, "failed")
        await sim.start()
        assert len(sim.store.models) == 4


@pytest.mark.parametrize("reset", [True, False])
async def test_dropping_closes_every_connection(reset: bool) -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire, await Wire.open(sim):
        assert (await wire.ask("GET", "/")).status == 200
        assert sim.drop(reset=reset) == 2
        if reset:
            with pytest.raises(ConnectionResetError):
                await wire.rest()
        else:
            assert await wire.rest() == b""
        await sim.wait_for(lambda: sim.counters.connections_open == 0)


async def test_dropping_fails_what_is_in_hand() -> None:
    async with Ollama(token_delay=60) as sim, await Wire.open(sim) as wire:
        await wire.send(encode("POST", "/api/chat", chat()))
        await sim.wait_for(lambda: sim.counters.generating == 1)
        assert sim.drop(reset=False) == 1
        assert await wire.rest() == b""
        await sim.wait_for(lambda: sim.counters.active == 0)
        assert (sim.last.state, sim.counters.cancelled, sim.counters.generating) == ("failed", 0, 0)


async def test_waiting_tells_what_it_saw() -> None:
    async with Ollama() as sim:
        await ask(sim, "GET", "/")
        with pytest.raises(TimeoutError, match=r"not within 0.01 s; Counters\(connections=1, requests=1"):
            await sim.wait_for(lambda: sim.counters.requests == 2, timeout=0.01)


async def test_settings_are_copied_and_may_change() -> None:
    settings = Settings(tokens=2)
    async with Ollama(settings=settings, seed=9) as sim:
        assert (sim.settings.tokens, sim.settings.seed, settings.seed) == (2, 9, 0)
        sim.settings.tokens = 4
        answer = await ask(sim, "POST", "/api/generate", {"model": "llama3.2", "prompt": "x"})
        assert answer.lines()[-1]["eval_count"] == 4
    with pytest.raises(TypeError):
        Ollama(unknown=1)


async def test_models_are_given_by_name_or_whole() -> None:
    async with Ollama("a", Model("b:7b", context_length=9)) as sim:
        names = [model["name"] for model in (await ask(sim, "GET", "/api/tags")).json()["models"]]
        assert names == ["a:latest", "b:7b"]


async def test_only_so_many_requests_are_kept() -> None:
    async with Ollama(record=2) as sim:
        for _ in range(5):
            await ask(sim, "GET", "/")
        assert [request.id for request in sim.requests] == [4, 5]
        assert sim.counters.requests == 5
    async with Ollama(record=0) as sim:
        await ask(sim, "GET", "/")
        assert (len(sim.requests), sim.counters.requests) == (0, 1)


async def test_a_bug_is_not_swallowed() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    sim = Ollama()
    sim.fault("status", when=lambda _: bool(1 // 0))
    await sim.start()
    with pytest.raises(ConnectionResetError):
        await ask(sim, "GET", "/")
    with pytest.raises(ZeroDivisionError):
        await sim.__aexit__(None, None, None)
    assert len(reported) == 1


async def test_the_control_surface_is_there_only_when_asked_for() -> None:
    async with Ollama() as sim:
        assert (await ask(sim, "GET", "/_sim/counters")).status == 404
    async with Ollama(control=True) as sim:
        await ask(sim, "POST", "/api/chat", chat(3))
        counters = (await ask(sim, "GET", "/_sim/counters")).json()
        assert (counters["requests"], counters["tokens_delivered"], counters["active"]) == (1, 3, 0)
        assert counters["by_route"] == {"/api/chat": 1}
        assert sim.counters.requests == 1


async def test_tls(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    async with Ollama(ssl=server_tls, token_delay=0.001) as sim:
        assert sim.url == f"https://127.0.0.1:{sim.port}"
        async with await Wire.open(sim, ssl=client_tls) as wire:
            assert len((await wire.ask("POST", "/api/chat", chat(3))).lines()) == 4
            await wire.send(encode("POST", "/api/chat", chat(100_000)))
            await sim.wait_for(lambda: sim.last.tokens > 3)
            wire.hang_up(reset=True)
            await sim.wait_for(lambda: sim.counters.cancelled == 1)
        await sim.wait_for(lambda: sim.counters.connections_open == 0)


async def test_repr_tells_what_goes_on() -> None:
    async with Ollama() as sim:
        assert repr(sim) == f"<Ollama {sim.url} listening active=0 loaded=[]>"
        await sim.stop()
        assert "not listening" in repr(sim)
