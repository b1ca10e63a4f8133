import base64
import json
import struct
from typing import Any

import pytest
import zstandard

from proxy.simulator import Ollama
from tests.proxy.simulator.client import Wire, ask, encode
from tests.proxy.simulator.conftest import Clients

MODEL = "nomic-embed-text"


async def test_embed() -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", "/api/embed", {"model": MODEL, "input": ["one two", "three"]})
        body = answer.json()
        assert list(body) == ["model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"]
        assert [len(vector) for vector in body["embeddings"]] == [768, 768]
        assert body["prompt_eval_count"] == 3
        again = (await ask(sim, "POST", "/api/embed", {"model": MODEL, "input": "three", "dimensions": 8})).json()
        assert [len(vector) for vector in again["embeddings"]] == [8]
        whole = (await ask(sim, "POST", "/api/embed", {"model": MODEL, "input": "three"})).json()
        assert whole["embeddings"][0] == body["embeddings"][1]


@pytest.mark.parametrize("empty", [{"input": ""}, {"input": []}, {}])
async def test_nothing_to_embed_loads_the_model(empty: dict[str, Any]) -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", "/api/embed", {"model": MODEL, **empty})
        assert (answer.json(), sim.counters.loads) == ({"model": MODEL, "embeddings": []}, 1)


async def test_embeddings() -> None:
    async with Ollama() as sim:
        assert (
            len((await ask(sim, "POST", "/api/embeddings", {"model": MODEL, "prompt": "x"})).json()["embedding"]) == 768
        )
        assert (await ask(sim, "POST", "/api/embeddings", {"model": MODEL})).json() == {"embedding": []}


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/api/embed", {"model": MODEL, "input": [1]}, 400, "invalid input type"),
        ("/api/embed", {"model": MODEL, "input": {}}, 400, "invalid input type"),
        ("/api/embed", {"model": "nope", "input": "x"}, 404, 'model "nope" not found, try pulling it first'),
        ("/api/embed", {"input": "x"}, 404, "model '' not found"),
        ("/api/embed", {"model": MODEL, "input": "x y z", "truncate": False, "options": {"num_ctx": 2}}, 400,
         "the input length exceeds the context length"),
        ("/api/embed", b"", 400, "missing request body"),
        ("/api/embed", {"model": MODEL, "options": {"num_ctx": "1"}}, 500, 'option "num_ctx" must be of type integer'),
        ("/api/embed", {"model": "llama3.2", "input": "x", "options": {"num_ctx": "1"}}, 500,
         'option "num_ctx" must be of type integer'),
        ("/api/embeddings", {"prompt": "x"}, 400, "model is required"),
    ],
)  # fmt: skip
async def test_what_is_refused(path: str, body: Any, status: int, error: str) -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", path, body)
        assert (answer.status, answer.json()) == (status, {"error": error})


@pytest.mark.parametrize(
    "body", [{"model": MODEL}, {"model": MODEL, "input": []}, {"input": "x", "encoding_format": "hex"}]
)
async def test_what_openai_s_is_refused(body: Any) -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", "/v1/embeddings", body)
        assert (answer.status, answer.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_openai_s_may_be_compressed() -> None:
    async with Ollama() as sim:
        packed = zstandard.compress(json.dumps({"model": MODEL, "input": "x"}).encode())
        assert (await ask(sim, "POST", "/v1/embeddings", packed, "Content-Encoding: zstd")).status == 200
        assert (await ask(sim, "POST", "/api/embed", packed, "Content-Encoding: zstd")).status == 400


async def test_embedding_may_fail_and_be_cancelled() -> None:
    async with Ollama(embed_delay=60) as sim, await Wire.open(sim) as wire:
        await wire.send(encode("POST", "/api/embed", {"model": MODEL, "input": "x"}))
        await sim.wait_for(lambda: sim.counters.generating == 1)
        wire.hang_up(reset=True)
        await sim.wait_for(lambda: sim.counters.cancelled == 1)
        sim.settings.embed_delay = 0
        sim.fault("error", "/api/embed", message="it died")
        assert (await ask(sim, "POST", "/api/embed", {"model": MODEL, "input": "x"})).json() == {"error": "it died"}


async def test_the_official_clients_embed(clients: Clients) -> None:
    async with Ollama() as sim:
        client = clients.ollama(sim)
        assert len((await client.embed(MODEL, ["a", "b"])).embeddings) == 2
        assert len((await client.embeddings(MODEL, "a")).embedding) == 768
        compatible = clients.openai(sim)
        # The SDK asks for base64 by itself and decodes it.
        packed = await compatible.embeddings.create(model=MODEL, input=["a", "b"])
        plain = await compatible.embeddings.create(model=MODEL, input="a", encoding_format="float")
        assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, rel=1e-6)
        assert (packed.usage.prompt_tokens, packed.data[1].index) == (2, 1)


async def test_base64_is_little_endian_floats() -> None:
    async with Ollama() as sim:
        body = {"model": MODEL, "input": "a", "encoding_format": "base64", "dimensions": 4}
        data = (await ask(sim, "POST", "/v1/embeddings", body)).json()["data"][0]["embedding"]
        assert len(struct.unpack("<4f", base64.b64decode(data))) == 4


@pytest.mark.parametrize(("path", "status"), [("/api/embed", 501), ("/api/embeddings", 500), ("/v1/embeddings", 501)])
async def test_a_model_that_only_chats_embeds_nothing_unless_set(path: str, status: int) -> None:
    body = {"model": "llama3.2", "input": "hi", "prompt": "hi"}
    async with Ollama() as sim:
        reply = await ask(sim, "POST", path, body)
        assert reply.status == status
        assert b"This server does not support embeddings. Start it with `--embeddings`" in reply.body
        assert (await ask(sim, "POST", path, {**body, "model": "nomic-embed-text"})).status == 200
        sim.settings.chat_embeds = True
        assert (await ask(sim, "POST", path, body)).status == 200


@pytest.mark.parametrize("model", [MODEL, "llama3.2"])
async def test_embeddings_take_turns(model: str) -> None:
    async with Ollama(embed_delay=60, num_parallel=4, chat_embeds=True) as sim, await Wire.open(sim) as one:
        request = encode("POST", "/api/embed", {"model": model, "input": "x"})
        await one.send(request)
        await sim.wait_for(lambda: sim.counters.generating == 1)
        async with await Wire.open(sim) as two:
            await two.send(request)
            await sim.wait_for(lambda: sim.counters.active == 2 and sim.counters.waiting == 1)
            assert sim.counters.generating == 1
            one.hang_up()
            await sim.wait_for(lambda: sim.counters.cancelled == 1 and sim.counters.generating == 1)
        await sim.wait_for(lambda: sim.counters.cancelled == 2)
