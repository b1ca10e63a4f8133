"""The simulator in the state of the real Ollama that was recorded, and the recorded requests asked of it."""

from proxy.simulator import Ollama, Settings
from proxy.simulator.tiny_models import TINY_MODELS
from tests.proxy.simulator.client import Answer, ask
from tests.recorded.cases import Case


def recorded_settings() -> Settings:
    """Return the settings of a host like the real one: without network and account, its models random.

    Random models think for as long as they are let, and call no tool. The seed makes a word with an ``e`` in it the
    first one where ``e`` is the text to stop at, as it was with the real one.
    """
    return Settings(
        version="0.32.15",
        network=False,
        tokens=1000,
        thinking_tokens=1000,
        call_tools=False,
        context=None,
        chat_embeds=False,
        seed=7,
    )


async def replay(cases: list[Case]) -> dict[str, Answer]:
    """Return the answers of a simulator to the requests of `cases`, asked in their order, by the case's name."""
    async with Ollama(*TINY_MODELS, settings=recorded_settings()) as sim:
        await ask(sim, "POST", "/api/generate", {"model": "tiny"})  # it was in memory
        return {case.name: await _ask(sim, case) for case in cases}


async def _ask(sim: Ollama, case: Case) -> Answer:
    headers = [f"{name}: {value}" for name, value in case.request_headers.items()]
    body = case.body if case.body or case.method != "GET" else None
    return await ask(sim, case.method, case.path, body, *headers)
