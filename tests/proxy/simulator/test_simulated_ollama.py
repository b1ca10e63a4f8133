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
