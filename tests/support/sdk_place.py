"""A running proxy that keeps requests, and the SDKs' clients for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anthropic import Anthropic, AsyncAnthropic
from openai import AsyncOpenAI, OpenAI

from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.simulator import Ollama
from tests.support.proxy import Running, running

MODEL = "llama3.2"


@dataclass
class Place:
    """A proxy in front of one host, and the keys of its callers."""

    proxy: Running
    sim: Ollama
    keys: dict[str, str]

    def openai(self, who: str = "alice") -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.proxy.url}/v1", api_key=self.keys[who], max_retries=0)

    def blocking_openai(self, who: str = "alice") -> OpenAI:
        return OpenAI(base_url=f"{self.proxy.url}/v1", api_key=self.keys[who], max_retries=0)

    def anthropic(self, who: str = "alice") -> AsyncAnthropic:
        return AsyncAnthropic(base_url=self.proxy.url, api_key=self.keys[who], max_retries=0)

    def blocking_anthropic(self, who: str = "alice") -> Anthropic:
        return Anthropic(base_url=self.proxy.url, api_key=self.keys[who], max_retries=0)


@asynccontextmanager
async def placed(
    folder: Path, *, store: str = "memory", slots: int = 2, policy: dict[str, Any] | None = None, **options: object
) -> AsyncIterator[Place]:
    """Run a proxy whose `defer` has these options.

    The keys are those of alice and bob, of one tenant; bob has the `policy`, where there is one.
    """
    keys = {}
    for name in ("alice", "bob"):
        own = "bobs" if policy is not None and name == "bob" else None
        keys[name], entry = new_key(name, now=0.0, tenant="physics", policy=own)
        add_key(folder / "keys.yaml", entry)
    chain = ["logging", {"auth": {"keys": "keys.yaml"}}, "access", {"defer": options}, "queue", "retry"]
    store = store.replace("state.db", str(folder / "state.db"))
    more: dict[str, Any] = {} if policy is None else {"policies": {"bobs": policy}}
    async with Ollama(tokens=12, token_delay=0.01) as sim:
        host = {"name": "b1", "url": sim.url, "slots": slots}
        async with running(host, middleware=chain, folder=folder, store=store, **more) as proxy:
            yield Place(proxy, sim, keys)
