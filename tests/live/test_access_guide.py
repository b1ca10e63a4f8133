"""The guide about access and parameters does what it says."""

import re
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from middleware.access.model_globs import canonical
from proxy.app import check
from proxy.kernel.ollama_routes import OLLAMA
from proxy.simulator import Ollama
from tests.support.policy import load_text
from tests.support.proxy import running
from tests.support.wire import ask

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "access.md").read_text()
POLICIES = re.findall(r"^```yaml\n(.*?)^```$", GUIDE, re.M | re.S)
WHOLE = POLICIES[0]
RULES = next(text for text in POLICIES if "temperature" in text)
ALIASES = next(text for text in POLICIES if "aliases" in text)
MODELS = ("llama3.2", "llama3.3:70b", "gpt-oss:120b-cloud", "hf.co/bartowski/x")


@pytest.mark.parametrize("text", POLICIES)
def test_every_policy_file_in_it_is_right(text: str, tmp_path: Path) -> None:
    check(load_text(f'backends: [{{name: gpu-1, url: "http://127.0.0.1:11434"}}]\n{text}', folder=tmp_path))


def test_every_pattern_in_it_is_one() -> None:
    table = GUIDE.partition("| in the policy |")[2].partition("\n\n")[0]
    patterns = [pattern for row in table.splitlines()[2:] for pattern in re.findall("`([^`]+)`", row.split("|")[1])]
    assert len(patterns) == 12
    assert all(map(canonical, patterns))


def test_every_class_of_routes_is_in_it() -> None:
    table = GUIDE.partition("| class |")[2].partition("\n\n")[0]
    assert {route.kind for route in OLLAMA} <= set(re.findall(r"^\| `(\w+)`", table, re.M))


async def use(text: str, policy: str | None, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
    """Return the status, and the body that reached the backend, of a request by a caller under `policy`."""
    settings = yaml.safe_load(text)
    overrides = settings.get("policies", {}).get(policy, {})
    chain: list[object] = ["logging"]
    for entry in settings["middleware"]:
        name, options = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
        if name in ("access", "parameters") and overrides.get(name) is not False:
            chain.append({name: {**options, **overrides.get(name, {})}})
    async with Ollama(*MODELS, tokens=1) as sim, running(sim.url, middleware=chain) as proxy:
        answer = await ask(proxy.address, method, path, body)
        relayed = [request for request in sim.requests if request.header("via")]
        return answer.status, orjson.loads(relayed[0].body or b"null") if relayed else None


@pytest.mark.parametrize(
    ("policy", "path", "body", "status"),
    [
        (None, "/api/generate", {"model": "llama3.3:70b"}, 200),
        (None, "/api/pull", {"model": "llama3.3:70b"}, 403),
        (None, "/api/generate", {"model": "gpt-oss:120b-cloud"}, 403),
        ("guests", "/api/generate", {"model": "llama3.2"}, 200),
        ("guests", "/api/show", {"model": "llama3.3:70b"}, 403),
        ("research", "/api/generate", {"model": "hf.co/bartowski/x"}, 200),
        ("research", "/api/show", {"model": "gpt-oss:120b-cloud"}, 200),
        ("operators", "/api/pull", {"model": "llama3.2", "stream": False}, 200),
        ("operators", "/api/pull", {"model": "llama3.2", "insecure": True}, 200),
    ],
)
async def test_who_may_do_what(policy: str | None, path: str, body: dict[str, Any], status: int) -> None:
    assert (await use(WHOLE, policy, "POST", path, body))[0] == status


@pytest.mark.parametrize(
    ("policy", "options", "sent"),
    [
        (None, {"num_ctx": 99999}, {"num_ctx": 8192}),
        ("guests", {"num_ctx": 99999}, {"num_ctx": 8192, "num_predict": 512}),
        ("research", {"num_ctx": 99999}, {"num_ctx": 65536}),
        ("operators", {"num_ctx": 99999}, {"num_ctx": 99999}),
    ],
)
async def test_what_they_may_ask_for(policy: str | None, options: dict[str, int], sent: dict[str, int]) -> None:
    body = {"model": "llama3.2", "options": options}
    assert await use(WHOLE, policy, "POST", "/api/generate", body) == (200, {**body, "options": sent})


@pytest.mark.parametrize(
    ("path", "body", "sent"),
    [
        ("/api/chat", {"keep_alive": 0}, {"keep_alive": 60, "options": {"num_predict": 1024}}),
        ("/api/chat", {"options": {"num_predict": -1}}, {"options": {"num_predict": 4096}}),
        ("/v1/chat/completions", {"temperature": 2}, {"temperature": 1.5, "max_tokens": 1024}),
        ("/v1/chat/completions", {"reasoning_effort": "high"}, None),
        ("/v1/chat/completions", {"n": 2}, None),
        ("/api/chat", {"options": {"num_gpu": 1}}, None),
    ],
)
async def test_rules(path: str, body: dict[str, Any], sent: dict[str, Any] | None) -> None:
    document = {"model": "llama3.2", "messages": [{"role": "user", "content": "x"}], **body}
    status, relayed = await use(RULES, None, "POST", path, document)
    assert relayed == (None if sent is None else {**document, **sent})
    assert sent is not None or status == 403


@pytest.mark.parametrize(("model", "status"), [("gpt-4o", 200), ("llama3.3:70b", 200), ("llama3.2", 403)])
async def test_aliases(model: str, status: int) -> None:
    found, relayed = await use(ALIASES, None, "POST", "/api/generate", {"model": model})
    assert found == status
    assert relayed == ({"model": "llama3.3:70b"} if status == 200 else None)
