"""proxy/ops/report.py."""

import json
from typing import Any

from proxy.simulator import Ollama
from tests.support.proxy import Running, running
from tests.support.wire import Client, ask, request

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": True}


async def status(proxy: Running) -> Any:
    return json.loads((await ask(proxy.address, "GET", "/-/status")).body)


async def test_a_running_request_and_its_backend() -> None:
    async with (
        Ollama(tokens=1000, token_delay=0.01) as sim,
        running({"name": "gpu", "url": sim.url, "slots": 3, "slots_per_model": 2, "weight": 2}, watched=True) as proxy,
    ):
        await sim.wait_for(lambda: sim.seen("/api/ps"))
        client = await Client.connect(proxy.address)
        await client.send(request("POST", "/api/chat", CHAT))
        await client.read_head()
        for _ in range(30):  # for longer than it takes until a speed means something
            await client.read_chunk()
        found = await status(proxy)
        (backend,) = found["backends"]
        assert (backend["name"], backend["state"], backend["slots"], backend["active"]) == ("gpu", "up", 3, 1)
        assert (backend["url"], backend["weight"], backend["version"]) == (sim.url, 2, "0.33.0")
        assert "llama3.2:latest" in backend["models"]
        assert backend["tokens_per_second"] > 0
        (model,) = backend["resident"]
        assert (model["name"], model["active"], model["slots"]) == ("llama3.2:latest", 1, 2)
        (live,) = found["requests"]
        assert (live["state"], live["model"], live["backend"]) == ("answering", "llama3.2:latest", "gpu")
        assert (live["route"], live["method"], live["reason"]) == ("/api/chat", "POST", "only")
        assert live["chunks"] >= 2
        assert live["first_byte"] > 0
        assert live["outcome"] is live["tokens_out"] is None
        assert live["id"] == next(iter(proxy.app.frame.live)).id
        await client.close()


async def test_what_is_over_is_kept_with_how_it_ended_and_the_page_itself_is_not_in_it() -> None:
    async with Ollama(tokens=4) as sim, running(sim.url) as proxy:
        await ask(proxy.address, "POST", "/api/chat", CHAT)
        await ask(proxy.address, "POST", "/api/chat", {**CHAT, "model": "nonesuch"})
        await status(proxy)
        found = await status(proxy)
        assert found["requests"] == []
        failed, done = found["recent"]
        assert (done["outcome"], done["status"], done["tokens_out"], done["chunks"]) == ("completed", 200, 4, 5)
        assert (done["state"], done["reason"], done["attempts"]) == ("finished", "only", 1)
        assert (failed["status"], failed["model"]) == (404, "nonesuch:latest")


async def test_limits_in_use_and_memory() -> None:
    limit = {"rate_limit": {"requests": "5/minute", "tokens": "1000/day", "by": "address"}}
    async with Ollama(tokens=4) as sim, running(sim.url, middleware=[limit]) as proxy:
        await ask(proxy.address, "POST", "/api/chat", CHAT)
        found = await status(proxy)
        requests, tokens = found["limits"]
        assert (requests["whom"], requests["limit"]) == ("address=127.0.0.1", "rate_limit")
        assert (requests["used"], requests["amount"], requests["window"]) == (1, 5, "minute")
        assert (tokens["unit"], tokens["window"]) == ("tokens", "day")
        assert found["bodies"] == {"held": 0, "total": 512 * 2**20, "callers": 0, "largest": 0}


async def test_a_model_that_is_being_loaded_is_shown_so() -> None:
    async with Ollama(load_delay=60) as sim, running(sim.url) as proxy:
        client = await Client.connect(proxy.address)
        await client.send(request("POST", "/api/chat", CHAT))
        await sim.wait_for(lambda: sim.counters.requests == 1)
        found = await status(proxy)
        assert found["requests"][0]["state"] == "loading"
        assert [(model["name"], model["loading"]) for model in found["backends"][0]["resident"]] == [
            ("llama3.2:latest", True)
        ]
        await client.close()


async def test_what_is_known_of_the_configuration() -> None:
    async with Ollama() as sim, running(sim.url, middleware=["logging", "queue", "retry"]) as proxy:
        config = (await status(proxy))["config"]
        assert (config["generation"], config["chain"]) == (1, "logging → queue → retry → dispatch")
        assert config["problems"] == config["restart"] == []
        assert config["age"] >= 0
