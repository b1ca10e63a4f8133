"""The policy file that ships: it works as it stands, and without any one of its plugins."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anthropic
import openai
import orjson
import pytest

from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.chain.plan import plan
from proxy.simulator import Ollama
from proxy.testing import TemporaryProxy, temporary_proxy
from tests.support.policy import load_text
from tests.support.wire import ask

SHIPPED = (Path(__file__).parents[2] / "proxy.yaml").read_text("utf-8")
PLUGINS = re.findall(r"^  - (\w+)", SHIPPED.split("\nmiddleware:")[1].split("\npolicies:")[0], re.M)


def without(plugin: str | None) -> str:
    """Return the file less one plugin, in the list and in the policies. Without `auth` nobody has a policy."""
    text = SHIPPED if plugin is None else re.sub(rf"^  - {plugin}\b.*\n(?: {{6}}.*\n)*", "", SHIPPED, flags=re.M)
    return text.split("\npolicies:")[0] if plugin == "auth" else re.sub(rf"^    {plugin}:.*\n", "", text, flags=re.M)


@dataclass
class Place:
    """The file at work: the proxy, the host behind it, and the headers of a caller whom it knows."""

    proxy: TemporaryProxy
    sim: Ollama
    who: dict[str, str]

    @property
    def address(self) -> tuple[str, int]:
        return self.proxy.address


@asynccontextmanager
async def shipped(folder: Path, policy: str | None = None, text: str = SHIPPED) -> AsyncIterator[Place]:
    """Run the file, or the `text` that was made of it, for a caller under `policy`."""
    key, entry = new_key("alice", now=0.0, policy=policy)
    add_key(folder / "keys.yaml", entry)
    async with Ollama(tokens=3, chat_embeds=True) as sim:
        text = text.replace("http://127.0.0.1:11434", sim.url)
        async with temporary_proxy(text, folder=folder, probes=False) as proxy:
            yield Place(proxy, sim, {"Authorization": f"Bearer {key}"})


@pytest.mark.parametrize("plugin", [None, *PLUGINS])
async def test_it_works_as_it_stands_and_without_any_one_plugin(plugin: str | None, tmp_path: Path) -> None:
    async with shipped(tmp_path, text=without(plugin)) as place:
        assert {link.name for link in place.proxy.app.plan.links} == {*PLUGINS} - {plugin}
        chat = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
        answer = await ask(place.address, "POST", "/api/chat", chat, place.who)
        assert answer.status == 200, answer.body
        assert answer.clean
        stranger = await ask(place.address, "POST", "/api/chat", chat)
        assert stranger.status == (200 if plugin == "auth" else 401)


@pytest.mark.parametrize("plugin", sorted({*PLUGINS} & {*re.findall(r"^    (\w+):", SHIPPED, re.M)}))
def test_a_policy_that_still_names_it_is_told(plugin: str) -> None:
    text = re.sub(rf"^  - {plugin}\b.*\n(?: {{6}}.*\n)*", "", SHIPPED, flags=re.M)
    _, problems = plan(load_text(text))
    assert problems
    assert all(f"there is no {plugin!r} in the middleware list" in str(problem) for problem in problems)


GENERATE = {"model": "llama3.2", "prompt": "hi", "stream": False}
EMBED = {"model": "llama3.2", "prompt": "hi"}
HEAVY: list[tuple[str, dict[str, object]]] = [
    *[
        (path, {**body, "options": {name: value}})
        for name, value in {
            "num_ctx": 1,
            "num_gpu": 0,
            "num_thread": 1,
            "num_batch": 7,
            "main_gpu": 0.5,
            "use_mmap": False,
            "draft_num_predict": 3,
        }.items()
        for path, body in (("/api/generate", GENERATE), ("/api/embeddings", EMBED))
    ],
    ("/api/generate", {**GENERATE, "shift": False}),
    *[
        ("/api/generate", {**GENERATE, "keep_alive": lifetime})
        for lifetime in (0, 0.5, "0", "1ms", "-0.1ns", -1, "99h")
    ],
    ("/api/embeddings", {**EMBED, "keep_alive": 0}),
]


async def test_no_key_makes_a_host_load_or_unload(tmp_path: Path) -> None:
    async with shipped(tmp_path) as place:
        sim, address, who = place.sim, place.address, place.who
        assert (await ask(address, "POST", "/api/generate", GENERATE, who)).status == 200
        for path, body in HEAVY:
            answer = await ask(address, "POST", path, body, who)
            assert answer.status == 200, (body, answer.body)
            assert 300 <= sim.engine.loaded["registry.ollama.ai/library/llama3.2:latest"].keep_alive <= 1800
        for lifetime in (0, "0s", 0.9):
            unload = {"model": "llama3.2", "keep_alive": lifetime}
            for path in ("/api/generate", "/api/chat"):
                assert (await ask(address, "POST", path, unload, who)).status == 403
        assert (sim.counters.loads, sim.counters.unloads) == (1, 0)
        assert all(b'"shift":false' not in request.body for request in sim.requests)


async def test_an_operator_may(tmp_path: Path) -> None:
    async with shipped(tmp_path, "operators") as place:
        sim, address, who = place.sim, place.address, place.who
        assert (await ask(address, "POST", "/api/generate", GENERATE, who)).status == 200
        heavy = {**GENERATE, "options": {"num_thread": 1}}
        assert (await ask(address, "POST", "/api/generate", heavy, who)).status == 200
        assert sim.counters.loads == 2
        stop = {"model": "llama3.2", "keep_alive": 0}
        assert (await ask(address, "POST", "/api/generate", stop, who)).status == 200
        assert not sim.engine.loaded


CODEX = [
    {"type": "function", "name": "shell", "parameters": {"type": "object", "properties": {}}, "strict": False},
    {"type": "web_search", "external_web_access": False},
]
"""The tools that Codex sends with every request, the second one unasked."""


async def test_codex_works_and_bills_nobody(tmp_path: Path) -> None:
    async with shipped(tmp_path) as place:
        asked = {"model": "llama3.2", "input": "hi", "tools": CODEX, "tool_choice": "auto", "stream": True}
        answer = await ask(place.address, "POST", "/v1/responses", asked, place.who)
        assert (answer.status, answer.clean) == (200, True), answer.body
        assert orjson.loads(place.sim.last.body)["tools"] == CODEX[:1]
        line = await place.proxy.log.request()
        assert (line["outcome"], line["dropped"]) == ("completed", "web_search")


async def test_the_openai_sdk_may_ask_for_a_search(tmp_path: Path) -> None:
    async with shipped(tmp_path) as place:
        key = place.who["Authorization"].removeprefix("Bearer ")
        async with openai.AsyncOpenAI(base_url=f"{place.proxy.url}/v1", api_key=key, max_retries=0) as client:
            answer = await client.responses.create(
                model="llama3.2", input="hi", tools=[{"type": "web_search"}], tool_choice={"type": "web_search_preview"}
            )
        assert answer.output_text
        sent = orjson.loads(place.sim.last.body)
        assert (sent["tools"], sent["tool_choice"]) == ([], None)


async def test_open_webui_pulls_for_operators(tmp_path: Path) -> None:
    async with shipped(tmp_path, "operators") as place:
        answer = await ask(place.address, "POST", "/api/pull", {"model": "phi4", "insecure": True}, place.who)
        assert (answer.status, answer.body.endswith(b'{"status":"success"}\n')) == (200, True)
        assert orjson.loads(place.sim.last.body) == {"model": "phi4", "insecure": None}
        assert (await place.proxy.log.request())["dropped"] == "insecure"


async def test_a_wrong_key_is_said_to_every_client_and_sent_once(tmp_path: Path) -> None:
    async with shipped(tmp_path) as place:
        for path in ("/api/chat", "/v1/responses", "/v1/messages", "/api/tags"):
            method = "GET" if path == "/api/tags" else "POST"
            answer = await ask(place.address, method, path, None, {"authorization": "Bearer op_wrong"})
            assert (answer.status, answer.headers["x-should-retry"]) == (401, "false")
        said = orjson.loads(answer.body)  # as Ollama's client in Go reads it
        assert said["status"] == said["error"] == "the API key is not known"
        before = len(place.proxy.log.requests)
        async with anthropic.AsyncAnthropic(base_url=place.proxy.url, api_key="op_wrong", max_retries=5) as client:
            with pytest.raises(anthropic.AuthenticationError, match="the API key is not known"):
                await client.messages.create(
                    model="llama3.2", max_tokens=1, messages=[{"role": "user", "content": "x"}]
                )
        assert len(place.proxy.log.requests) == before + 1
