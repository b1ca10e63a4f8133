"""What reaches a backend through ``access`` and ``parameters``, against a backend that reads bodies as Go does."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import ollama
import openai
import orjson
import pytest
import zstandard

from proxy.simulator import Ollama, Request, go_json
from tests.support.proxy import running

ALLOWED = "llama3.2"
MODELS = (ALLOWED, "qwen3", "alice/llama3.2", "hf.co/a/llama3.2", "gpt-oss:120b-cloud", "whisper")
CHAIN = [
    "logging",
    {"access": {"routes": ["read", "inference", "manage"], "models": ["llama3.2*"]}},
    {"parameters": {"num_ctx": {"max": 8192}, "keep_alive": {"max": "10m"}}},
]


@dataclass
class Place:
    url: str
    sim: Ollama
    client: httpx.AsyncClient

    def relayed(self) -> list[Request]:
        """Return and forget what came through the proxy; what it asks on its own account has no Via."""
        found = [request for request in self.sim.requests if request.header("via")]
        self.sim.requests.clear()
        return found


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with (
        Ollama(*MODELS, tokens=2) as sim,
        running(sim.url, middleware=CHAIN) as proxy,
        httpx.AsyncClient(base_url=proxy.url) as client,
    ):
        yield Place(proxy.url, sim, client)


BOUNDARY = {"content-type": "multipart/form-data; boundary=b"}
FILE = '--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--b--\r\n'


def form(*heads: str) -> str:
    return "".join(f"--b\r\n{head}\r\n\r\nqwen3\r\n" for head in heads) + FILE


LONG_NAME = "llama3.2-" + "x" * 60 + ":" + "x" * 58 + "A" * 2**16 + "://registry.ollama.ai/library/qwen3"
"""What is long enough for an image begins here with an allowed name; Ollama reads what stands behind its ``://``."""


def named(name: str, *more: str) -> str:
    return "\r\n".join([f'Content-Disposition: form-data; name="{name}"', *more])


@pytest.mark.parametrize(
    ("method", "target", "body", "headers"),
    [
        # another model, by every spelling
        ("POST", "/api/chat", '{"model":"qwen3"}', {}),
        ("POST", "/api/chat", '{"model":" QWEN3:Latest "}', {}),
        ("POST", "/api/chat", '{"model":"library/qwen3"}', {}),
        ("POST", "/api/chat", '{"model":"x://registry.ollama.ai/library/qwen3:latest"}', {}),
        ("POST", "/api/chat", '{"model":"qwen3:local"}', {}),
        ("POST", "/api/chat", '{"model":"alice/llama3.2"}', {}),
        ("POST", "/api/chat", '{"model":"hf.co/a/llama3.2"}', {}),
        ("POST", "/api/chat", '{"model":"gpt-oss:120b-cloud"}', {}),
        ("POST", "/api/chat", '{"model":"llama3.2:cloud"}', {}),
        ("POST", "/api/chat", '{"model":"\\u0071wen3"}', {}),
        pytest.param("POST", "/api/chat", f'{{"model":"{LONG_NAME}"}}', {}, id="a name as long as an image"),
        pytest.param("POST", "/api/pull", f'{{"name":"{LONG_NAME}"}}', {}, id="such a name to pull"),
        # by a body that two readers read differently
        ("POST", "/api/chat", '{"model":"llama3.2","model":"qwen3"}', {}),
        ("POST", "/api/chat", '{"model":"qwen3","model":null}', {}),
        ("POST", "/api/chat", '{"model":"llama3.2","MODEL":"qwen3"}', {}),
        ("POST", "/api/chat", '{"model":"llama3.2","mod\\u0065l":"qwen3"}', {}),
        ("POST", "/api/chat", '{"model":"qwen3"}{"model":"llama3.2"}', {}),
        ("POST", "/api/chat", '{"model":"qwen3"}garbage', {}),
        ("POST", "/api/chat", b'{"model":"qwen3","x":"\xff"}', {}),
        ("POST", "/api/generate", b'\xef\xbb\xbf{"model":"qwen3"}', {}),
        ("POST", "/v1/chat/completions", '{"model":"qwen3","messages":[{"role":"user","content":"x"}]}', {}),
        ("POST", "/v1/chat/completions", zstandard.compress(b'{"model":"qwen3"}'), {"content-encoding": "zstd"}),
        ("POST", "/v1/responses", '{"Model":"qwen3","input":"x"}', {}),
        ("POST", "/v1/messages", '{"model":"qwen3","max_tokens":9,"messages":[]}', {}),
        # by another member
        ("POST", "/api/show", '{"name":"qwen3"}', {}),
        ("POST", "/api/show", '{"model":"","name":"qwen3"}', {}),
        ("POST", "/api/pull", '{"model":"llama3.2","name":"qwen3"}', {}),
        ("POST", "/api/push", '{"name":"alice/llama3.2"}', {}),
        ("DELETE", "/api/delete", '{"name":"qwen3"}', {}),
        ("POST", "/api/create", '{"model":"llama3.2-x","from":"qwen3"}', {}),
        ("POST", "/api/create", '{"model":"llama3.2-x","from":"llama3.2","remote_host":"https://evil.example"}', {}),
        ("POST", "/api/copy", '{"source":"qwen3","destination":"llama3.2-x"}', {}),
        ("POST", "/api/copy", '{"source":"llama3.2","destination":"qwen3"}', {}),
        # by path, query and form
        ("GET", "/v1/models/qwen3", "", {}),
        ("GET", "/v1/models/%71wen3", "", {}),
        ("POST", "/v1/audio/transcriptions?model=qwen3", FILE, BOUNDARY),
        ("POST", "/v1/audio/transcriptions?mod%65l=qwen3", FILE, BOUNDARY),
        ("POST", "/v1/audio/transcriptions?model=llama3.2", form(named("model")), BOUNDARY),
        ("POST", "/v1/audio/transcriptions", form(named("model")), BOUNDARY),
        ("POST", "/v1/audio/transcriptions", form("Content-Disposition: form-data; name*=utf-8''model"), BOUNDARY),
        ("POST", "/v1/audio/transcriptions", form(named("model", "Content-Transfer-Encoding: base64")), BOUNDARY),
        ("POST", "/v1/audio/transcriptions", "model=qwen3", {"content-type": "application/x-www-form-urlencoded"}),
        # by another route
        ("POST", "/api/me", "{}", {}),
        ("POST", "/-/backends/b1/api/chat", '{"model":"qwen3"}', {}),
        ("POST", "/-/backends/all/api/pull", '{"model":"qwen3"}', {}),
        ("POST", "/api//chat", '{"model":"qwen3"}', {}),
        ("POST", "/api/%63hat", '{"model":"qwen3"}', {}),
    ],
)
async def test_the_list_cannot_be_passed(
    place: Place, method: str, target: str, body: str | bytes, headers: dict[str, str]
) -> None:
    answer = await place.client.request(method, target, content=body, headers=headers)
    assert answer.status_code in (400, 403, 404)
    assert not place.relayed()


async def test_whatever_gets_through_is_an_allowed_model_for_the_backend(place: Place) -> None:
    source = random.Random(20240607)
    keys = ["model", "name", "Model", "mod\\u0065l", "stream", "options"]
    values = ['"llama3.2"', '"LLAMA3.2:latest"', '"qwen3"', '"llama3.2:1b-cloud"', '"hf.co/a/llama3.2"', "null", '""']
    tails = ["", "", "", "\n", '{"model":"qwen3"}', "\x00"]
    passed = 0
    for number in range(400):
        members = [f'"{source.choice(keys)}":{source.choice(values)}' for _ in range(source.randint(1, 3))]
        body = "{" + ",".join([*members, '"prompt":"x"']) + "}" + source.choice(tails)
        path = ["/api/show", "/api/generate"][number % 2]
        answer = await place.client.post(path, content=body)
        if relayed := place.relayed():
            passed += 1
            read = go_json.decode(relayed[0].body, {"model": go_json.STRING, "name": go_json.STRING})
            name = read["model"] or (read["name"] if path == "/api/show" else "")
            assert name in ("llama3.2", "LLAMA3.2:latest"), body
        else:
            assert answer.status_code in ((400, 403) if path == "/api/show" else (400, 403, 404)), body
    assert passed > 20


@pytest.mark.parametrize("space", [" ", "\t"])
async def test_no_parameter_is_hidden_behind_what_looks_like_an_image(place: Place, space: str) -> None:
    gap = space * 127  # behind which a word may begin
    body = f'{{"model":"llama3.2","prompt":"x","keep_alive":{gap}-1}}{"A" * 2**16}"5m"}}'
    assert go_json.decode(body.encode(), {"keep_alive": go_json.ANY}) == {"keep_alive": -1}
    answer = await place.client.post("/api/generate", content=body)
    assert answer.status_code == 400
    assert not place.relayed()


@pytest.mark.parametrize(
    ("asked", "tokens"),
    [
        ({}, 5),
        ({"max_tokens": 1000}, 5),
        ({"max_completion_tokens": 1000}, 5),
        ({"max_completion_tokens": 3}, 3),
        ({"max_completion_tokens": 3, "max_tokens": -1}, 5),
        ({"max_completion_tokens": 3, "max_tokens": None}, 3),
        ({"options": {"num_predict": 1000}, "num_predict": 1000}, 5),
    ],
)
async def test_no_member_of_a_body_lifts_the_bound_of_an_answer(asked: dict[str, Any], tokens: int) -> None:
    body = {"model": ALLOWED, "messages": [{"role": "user", "content": "x"}], **asked}
    async with (
        Ollama(ALLOWED, tokens=50) as sim,
        running(sim.url, middleware=[{"parameters": {"num_predict": {"max": 5}}}]) as proxy,
        httpx.AsyncClient(base_url=proxy.url) as client,
    ):
        answer = await client.post("/v1/chat/completions", json=body)
        assert answer.json()["usage"]["completion_tokens"] == tokens


async def test_lists_show_only_what_may_be_used(place: Place) -> None:
    tags = (await place.client.get("/api/tags")).json()["models"]
    assert [entry["name"] for entry in tags] == ["llama3.2:latest"]
    data = (await place.client.get("/v1/models")).json()["data"]
    assert [entry["id"] for entry in data] == ["llama3.2:latest"]
    async with ollama.AsyncClient(place.sim.url) as direct, ollama.AsyncClient(place.url) as client:
        await direct.generate("qwen3", "x")
        assert (await client.ps()).models == []
        await client.generate(ALLOWED, "x")
        assert [entry.model for entry in (await client.ps()).models] == ["llama3.2:latest"]


async def test_the_backend_gets_the_body_byte_for_byte_or_with_its_edit(place: Place) -> None:
    body = b' { "prompt" : "\\u00e9" , "model":"llama3.2","options" : {"num_ctx": 4096.0}, "keep_alive":"5m" } \n'
    await place.client.post("/api/generate", content=body)
    assert place.relayed()[0].body == body
    edited = body.replace(b"4096.0", b"1e9").replace(b'"5m"', b"-1")
    await place.client.post("/api/generate", content=edited)
    assert place.relayed()[0].body == body.replace(b"4096.0", b"8192").replace(b'"5m"', b"600")


async def test_a_compressed_body_arrives_as_it_was_sent(place: Place) -> None:
    plain = b'{"model":"llama3.2","messages":[{"role":"user","content":"x"}]}'
    body = zstandard.compress(plain)
    headers = {"content-encoding": "zstd"}
    answer = await place.client.post("/v1/chat/completions", content=body, headers=headers)
    assert answer.status_code == 200
    request = place.relayed()[0]
    assert (request.body, request.header("content-encoding")) == (body, b"zstd")


async def test_refusals_come_in_the_clients_own_flavor(place: Place) -> None:
    async with ollama.AsyncClient(place.url) as client:
        with pytest.raises(ollama.ResponseError, match="the model 'qwen3' is not allowed for you"):
            await client.generate("qwen3", "x")
    async with openai.AsyncOpenAI(base_url=f"{place.url}/v1", api_key="x", max_retries=0) as sdk:
        with pytest.raises(openai.PermissionDeniedError, match="the model 'qwen3' is not allowed for you"):
            await sdk.embeddings.create(model="qwen3", input="x")
        with pytest.raises(openai.PermissionDeniedError):
            await sdk.models.retrieve("qwen3")


async def test_a_large_body_is_checked_and_forwarded(place: Place) -> None:
    image = "A" + "iVBORw0KGgo" * 400_000
    document = {"model": ALLOWED, "messages": [{"role": "user", "content": "?", "images": [image]}], "keep_alive": -1}
    answer = await place.client.post("/api/chat", content=orjson.dumps(document))
    assert answer.status_code in (200, 400)  # this model cannot see
    assert place.relayed()[0].body == orjson.dumps({**document, "keep_alive": 600})
