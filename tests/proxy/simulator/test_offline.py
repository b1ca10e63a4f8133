import pytest

from proxy.simulator import Ollama
from proxy.simulator.model_names import parse_plain
from proxy.simulator.offline import cloud_failure, registry_failure
from tests.proxy.simulator.client import ask


def test_a_call_to_the_cloud_names_its_path() -> None:
    text = cloud_failure("/api/chat")
    assert text.startswith('Post "https://')
    assert "/api/chat?ts=" in text
    assert text.endswith("proxyconnect tcp: dial tcp 127.0.0.1:1: connect: connection refused")


@pytest.mark.parametrize(
    ("name", "insecure", "url", "cause"),
    [
        ("me/mine:7b", False, "/v2/me/mine/manifests/7b", "proxyconnect tcp: "),
        ("localhost:7/x/y", True, "http://localhost:7/v2/x/y/manifests/latest", "dial tcp 127.0.0.1:7: "),
        ("localhost:7/x/y", False, "https://localhost:7/v2/x/y/manifests/latest", "dial tcp 127.0.0.1:7: "),
        ("127.0.0.1/x/y", False, "https://127.0.0.1/v2/x/y/manifests/latest", "dial tcp 127.0.0.1:443: "),
    ],
)
def test_a_registry_on_this_machine_is_asked_without_a_proxy(name: str, insecure: bool, url: str, cause: str) -> None:
    parsed = parse_plain(name)
    text = registry_failure("Get", parsed, f"manifests/{parsed.tag}", insecure=insecure)
    asked, _, why = text.partition('": ')
    assert asked.endswith(url)
    assert why.startswith(cause)


@pytest.mark.parametrize(
    "path", ["/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]
)
async def test_what_the_cloud_fails_with_is_in_ollama_s_own_flavor_on_every_route(path: str) -> None:
    async with Ollama(network=False) as sim:
        message = {"role": "user", "content": "hi"}
        body = {"model": "gpt-oss:120b-cloud", "messages": [message], "prompt": "hi", "input": "hi", "max_tokens": 3}
        answer = await ask(sim, "POST", path, {**body, "stream": True})
        assert (answer.status, list(answer.json())) == (502, ["error"])
        assert f"{path}?ts=" in answer.json()["error"]
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        assert "cache-control" not in answer.headers
