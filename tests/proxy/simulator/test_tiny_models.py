from proxy.simulator import Ollama
from proxy.simulator.tiny_models import TINY_MODELS
from tests.proxy.simulator.client import ask


async def test_each_can_do_what_it_is_called_for() -> None:
    async with Ollama(*TINY_MODELS) as sim:
        models = (await ask(sim, "GET", "/api/tags")).json()["models"]
        able = {model["name"]: model["capabilities"] for model in models}
        assert able == {
            "tiny:latest": ["completion", "tools"],
            "tiny-thinking:latest": ["completion", "thinking"],
            "tiny-fim:latest": ["completion", "insert"],
            "slow:latest": ["completion"],
        }


async def test_they_are_loaded_with_the_context_that_they_were_made_with() -> None:
    async with Ollama(*TINY_MODELS) as sim:
        await ask(sim, "POST", "/api/generate", {"model": "tiny"})
        running = (await ask(sim, "GET", "/api/ps")).json()["models"][0]
        assert (running["context_length"], running["size"]) == (512, 230_686)
        await ask(sim, "POST", "/api/generate", {"model": "tiny", "options": {"num_ctx": 9999}})
        assert (await ask(sim, "GET", "/api/ps")).json()["models"][0]["context_length"] == 2048
