"""proxy/commands/act.py."""

from proxy.simulator import Ollama
from tests.proxy.commands.test_status import CHAT, invoke
from tests.support.proxy import running
from tests.support.wire import Client, ask, request


async def test_a_request_is_cancelled() -> None:
    async with Ollama(tokens=1000, token_delay=0.01) as sim, running(sim.url) as proxy:
        client = await Client.connect(proxy.address)
        await client.send(request("POST", "/api/chat", CHAT))
        head = await client.read_head()
        result = await invoke(proxy, "cancel", head.headers["x-request-id"])
        assert result.stdout == f"cancelled {head.headers['x-request-id']}\n"
        await sim.wait_for(lambda: sim.counters.active == 0)
        result = await invoke(proxy, "cancel", "nonesuch/../x")
        assert (result.exit_code, "404" in result.stderr) == (1, True)
        await client.close()


async def test_a_backend_is_drained_and_undrained() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        states = []
        for command in ("drain", "undrain"):
            assert (await invoke(proxy, command, "b1")).stdout == f"{command}ed b1\n"
            states.append(proxy.app.pool.backends[0].health.shown)
        assert states == ["draining", "up"]
        assert (await invoke(proxy, "drain", "b2")).exit_code == 1


async def test_a_model_is_unloaded() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        await ask(proxy.address, "POST", "/api/chat", CHAT)
        assert (await invoke(proxy, "unload", "b1", "llama3.2")).stdout == "unloaded llama3.2:latest from b1\n"
        await sim.wait_for(lambda: not sim.engine.loaded)
