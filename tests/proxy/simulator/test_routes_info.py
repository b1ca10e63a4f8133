import re
from datetime import datetime
from typing import Any

import ollama
import openai
import pytest

from proxy.simulator import Model, Ollama
from proxy.simulator.tiny_models import TINY_MODELS
from tests.proxy.simulator.client import ask, chat
from tests.proxy.simulator.conftest import Clients


async def test_root_and_version() -> None:
    async with Ollama(version="1.2.3") as sim:
        answer = await ask(sim, "GET", "/")
        assert (answer.body, answer.headers["content-type"]) == (b"Ollama is running", "text/plain; charset=utf-8")
        assert (await ask(sim, "GET", "/api/version")).json() == {"version": "1.2.3"}


async def test_tags() -> None:
    async with Ollama("llama3.2", "gpt-oss:120b-cloud") as sim:
        local, stub = (await ask(sim, "GET", "/api/tags")).json()["models"]
        assert list(local) == ["name", "model", "modified_at", "size", "digest", "details", "capabilities"]
        assert (local["name"], local["model"]) == ("llama3.2:latest", "llama3.2:latest")
        assert re.fullmatch(r"[0-9a-f]{64}", local["digest"])
        assert datetime.fromisoformat(local["modified_at"]).tzinfo is not None
        assert (stub["remote_model"], stub["remote_host"]) == ("gpt-oss:120b", "https://ollama.com:443")


async def test_ps_shows_what_is_loaded() -> None:
    async with Ollama() as sim:
        assert (await ask(sim, "GET", "/api/ps")).json() == {"models": []}
        await ask(sim, "POST", "/api/chat", chat(1, options={"num_ctx": 8192}))
        await ask(sim, "POST", "/api/chat", chat(1, model="qwen3", keep_alive=-1))
        pinned, plain = (await ask(sim, "GET", "/api/ps")).json()["models"]
        assert (pinned["name"], plain["name"]) == ("qwen3:latest", "llama3.2:latest")
        assert (plain["context_length"], plain["size_vram"], len(plain["digest"])) == (8192, plain["size"], 64)
        assert datetime.fromisoformat(pinned["expires_at"]).year > 2200


async def test_ps_while_a_model_is_in_use() -> None:
    async with Ollama() as sim:
        async with sim.engine.hold("key", Model.of("llama3.2"), {}, None):
            (entry,) = (await ask(sim, "GET", "/api/ps")).json()["models"]
        assert datetime.fromisoformat(entry["expires_at"]) > datetime.fromisoformat("2020-01-01T00:00:00Z")


@pytest.mark.parametrize("field", ["model", "name", "MODEL"])
async def test_show(field: str) -> None:
    async with Ollama() as sim:
        shown = (await ask(sim, "POST", "/api/show", {field: "QWEN3"})).json()
        assert shown["capabilities"] == ["completion", "tools", "thinking"]
        assert shown["model_info"]["general.architecture"] == "qwen3"
        assert sim.last.model == "registry.ollama.ai/library/qwen3:latest"


async def test_show_depends_on_the_user_agent() -> None:
    async with Ollama() as sim:
        shown = (
            await ask(sim, "POST", "/api/show", {"model": "qwen3:latest"}, "User-Agent: GitHubCopilotChat/1")
        ).json()
        assert shown["model_info"]["general.basename"] == "qwen3:latest"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "missing request body"),
        ({}, 400, "model is required"),
        ({"model": "nope"}, 404, "model 'nope:latest' not found"),
        ({"model": "a b"}, 400, "invalid model name"),
        ({"model": "a:cloud:local"}, 400, 'use either :local or :cloud, not both: "a:cloud:local"'),
        (
            {"model": "gpt-oss:120b-cloud:local"},
            400,
            'use either :local or :cloud, not both: "gpt-oss:120b-cloud:local"',
        ),
    ],
)
async def test_show_refuses(body: Any, status: int, message: str) -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", "/api/show", body)
        assert (answer.status, answer.json()) == (status, {"error": message})


async def test_show_asks_the_cloud() -> None:
    async with Ollama(cloud=("gpt-oss:120b",)) as sim:
        assert (await ask(sim, "POST", "/api/show", {"model": "gpt-oss:120b-cloud"})).status == 200
        assert sim.last.cloud
        assert (await ask(sim, "POST", "/api/show", {"model": "other:cloud"})).status == 404
        sim.settings.signed_in = False
        answer = await ask(sim, "POST", "/api/show", {"model": "gpt-oss:120b-cloud"})
        assert (answer.status, answer.json()["error"]) == (401, "unauthorized")


async def test_openai_models(clients: Clients) -> None:
    async with Ollama("llama3.2", "me/mine:7b") as sim:
        client = clients.openai(sim)
        listed = [(model.id, model.owned_by) async for model in client.models.list()]
        assert listed == [("llama3.2:latest", "library"), ("me/mine:7b", "me")]
        assert (await client.models.retrieve("LLAMA3.2")).id == "LLAMA3.2"
        with pytest.raises(openai.NotFoundError, match="model 'nope:latest' not found"):
            await client.models.retrieve("nope")


async def test_the_account() -> None:
    async with Ollama() as sim:
        assert (await ask(sim, "POST", "/api/me")).json()["name"] == "operator"
        assert (await ask(sim, "POST", "/api/signout")).body == b"null"
        answer = await ask(sim, "POST", "/api/me")
        assert (answer.status, set(answer.json())) == (401, {"error", "signin_url"})
        assert (await ask(sim, "DELETE", "/api/user/keys/abc")).status == 401


@pytest.mark.parametrize(
    ("path", "fields"), [("web_search", {"results"}), ("web_fetch", {"title", "content", "links"})]
)
async def test_web_tools_are_the_cloud_s(path: str, fields: set[str]) -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", f"/api/experimental/{path}", {"query": "x"})
        assert set(answer.json()) == fields
        assert sim.last.cloud
        assert (await ask(sim, "POST", f"/api/experimental/{path}", b" ")).status == 400
        sim.settings.signed_in = False
        assert (await ask(sim, "POST", f"/api/experimental/{path}", {"query": "x"})).status == 401


async def test_status_and_recommendations() -> None:
    async with Ollama() as sim:
        assert (await ask(sim, "GET", "/api/status")).json() == {"cloud": {"disabled": False, "source": "none"}}
        body = (await ask(sim, "GET", "/api/experimental/model-recommendations")).json()
        assert [set(each) - {"model", "description"} for each in body["recommendations"]] == [
            {"context_length", "max_output_tokens"},
            {"vram_bytes"},
        ]


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("POST", "/api/me", 503, "account unavailable"),
        ("POST", "/api/signout", 500, "there was an error signing out"),
        ("POST", "/api/experimental/web_search", 502, "connection refused"),
    ],
)
async def test_without_a_network(method: str, path: str, status: int, error: str) -> None:
    async with Ollama(network=False) as sim:
        answer = await ask(sim, method, path, {"query": "x"})
        assert (answer.status, answer.json()["error"][-len(error) :]) == (status, error)


async def test_show_tells_what_the_model_is_run_with() -> None:
    async with Ollama(*TINY_MODELS) as sim:
        shown = (await ask(sim, "POST", "/api/show", {"model": "tiny"})).json()
        assert shown["parameters"] == "num_ctx                        512"
        assert shown["model_info"]["tokenizer.ggml.tokens"] is None
        shown = (await ask(sim, "POST", "/api/show", {"model": "tiny", "verbose": True})).json()
        assert len(shown["model_info"]["tokenizer.ggml.tokens"]) == 512


async def test_the_official_client_reads_everything(clients: Clients) -> None:
    async with Ollama() as sim:
        client = clients.ollama(sim)
        await client.chat("llama3.2", [{"role": "user", "content": "hi"}])
        listed, running, shown = await client.list(), await client.ps(), await client.show("llama3.2")
        assert [model.model for model in listed.models][:2] == ["llama3.2:latest", "qwen3:latest"]
        assert running.models[0].context_length == 4096
        assert shown.details is not None
        assert shown.details.family == "llama"
        with pytest.raises(ollama.ResponseError, match=r"model 'nope:latest' not found \(status code: 404\)"):
            await client.show("nope")
