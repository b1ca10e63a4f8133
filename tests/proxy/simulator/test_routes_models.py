import asyncio
import hashlib
from typing import Any

import ollama
import pytest

from proxy.simulator import Ollama
from proxy.simulator.http_connection import BODY_WINDOW
from tests.proxy.simulator.client import Wire, ask, encode
from tests.proxy.simulator.conftest import Clients

BLOB = b"GGUF" * 50_000
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"


async def test_pulling_reports_progress() -> None:
    async with Ollama(pull_layers=1, pull_steps=2) as sim:
        answer = await ask(sim, "POST", "/api/pull", {"model": "mistral:7b"})
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert len(answer.chunks) == 7
        lines = answer.lines()
        assert [line["status"].split()[0] for line in lines] == [
            "pulling", "pulling", "pulling", "pulling", "verifying", "writing", "success",
        ]  # fmt: skip
        assert [line.get("completed", 0) * 2 // line["total"] for line in lines[1:4]] == [0, 0, 2]
        assert lines[2]["completed"] == lines[2]["total"] // 2
        assert "mistral:7b" in sim.store
        assert sim.last.model == "registry.ollama.ai/library/mistral:7b"


async def test_a_missing_model_is_200_and_then_an_error_line() -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", "/api/pull", {"name": "missing"})
        assert (answer.status, answer.end) == (200, "clean")
        assert answer.lines() == [{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}]


async def test_pulling_without_a_stream() -> None:
    async with Ollama(registry=("mistral",)) as sim:
        answer = await ask(sim, "POST", "/api/pull", {"model": "mistral", "stream": False})
        assert (answer.json(), answer.headers["content-type"]) == ({"status": "success"}, "application/json")
        answer = await ask(sim, "POST", "/api/pull", {"model": "other", "stream": False})
        assert (answer.status, answer.json()) == (500, {"error": "pull model manifest: file does not exist"})


@pytest.mark.parametrize("raw", ["gpt-oss:cloud", "gpt-oss:20b-cloud"])
async def test_pulling_a_cloud_model_makes_a_stub(raw: str) -> None:
    async with Ollama("a") as sim:
        await ask(sim, "POST", "/api/pull", {"model": raw})
        stub = next(model for model in sim.store.listed() if model.name == raw)
        assert stub.remote == raw.removesuffix("-cloud").removesuffix(":cloud")


async def test_closing_the_connection_cancels_a_pull() -> None:
    async with Ollama(pull_delay=60) as sim, await Wire.open(sim) as wire:
        await wire.send(encode("POST", "/api/pull", {"model": "mistral"}))
        await sim.wait_for(lambda: sim.last.sent_chunks == 1)
        wire.hang_up()
        await sim.wait_for(lambda: sim.counters.cancelled == 1)
        assert "mistral" not in sim.store


async def test_what_was_pulled_is_verified_in_silence() -> None:
    async with Ollama(verify_delay=60, pull_layers=1, pull_steps=1) as sim, await Wire.open(sim) as wire:
        await wire.send(encode("POST", "/api/pull", {"model": "mistral"}))
        await sim.wait_for(lambda: b"verifying" in sim.last.answer)
        assert sim.last.sent_chunks == 4
        assert "mistral" not in sim.store


async def test_a_pull_may_die() -> None:
    async with Ollama() as sim:
        sim.fault("error", "/api/pull", after=3, message="max retries exceeded: EOF")
        answer = await ask(sim, "POST", "/api/pull", {"model": "mistral"})
        assert (len(answer.chunks), answer.lines()[-1]) == (4, {"error": "max retries exceeded: EOF"})
        assert "mistral" not in sim.store


async def test_pushing() -> None:
    async with Ollama("me/mine") as sim:
        lines = (await ask(sim, "POST", "/api/push", {"model": "me/mine"})).lines()
        assert (lines[0], lines[-1]) == ({"status": "retrieving manifest"}, {"status": "success"})
        assert (await ask(sim, "POST", "/api/push", {"model": "none"})).lines()[-1]["error"].startswith("open ")
        sim.settings.registry = ()
        assert "not authorized" in (await ask(sim, "POST", "/api/push", {"model": "me/mine"})).lines()[-1]["error"]


async def test_creating_from_another_model() -> None:
    async with Ollama("llama3.2") as sim:
        body = {"model": "me/mario", "from": "llama3.2", "system": "You are Mario."}
        lines = (await ask(sim, "POST", "/api/create", body)).lines()
        assert lines[-1] == {"status": "success"}
        shown = (await ask(sim, "POST", "/api/show", {"model": "me/mario"})).json()
        assert (shown["system"], shown["details"]["parent_model"]) == ("You are Mario.", "llama3.2")


async def test_creating_pulls_what_it_is_made_from() -> None:
    async with Ollama("a") as sim:
        lines = (await ask(sim, "POST", "/api/create", {"model": "b", "from": "mistral"})).lines()
        assert lines[0] == {"status": "pulling manifest"}
        assert "mistral" in sim.store
        assert (await ask(sim, "POST", "/api/create", {"model": "c", "from": "missing"})).lines()[-1]["error"]


async def test_creating_a_stub_of_a_remote_model() -> None:
    async with Ollama("a") as sim:
        body = {"model": "b", "from": "gpt-oss:120b", "remote_host": "https://ollama.com"}
        assert (await ask(sim, "POST", "/api/create", body)).lines()[-1] == {"status": "success"}
        assert sim.store.listed()[0].remote == "gpt-oss:120b" or sim.store.listed()[1].remote == "gpt-oss:120b"


async def test_creating_from_blobs() -> None:
    async with Ollama("a") as sim:
        body: dict[str, Any] = {"model": "b", "files": {"b.gguf": DIGEST}, "stream": False}
        answer = await ask(sim, "POST", "/api/create", body)
        missing = f"open /models/blobs/{DIGEST.replace(':', '-')}: no such file or directory"
        assert (answer.status, answer.json()) == (500, {"error": missing})
        assert (await ask(sim, "POST", f"/api/blobs/{DIGEST}", BLOB)).status == 201
        assert (await ask(sim, "POST", "/api/create", body)).json() == {"status": "success"}
        assert "b" in sim.store
        assert (await ask(sim, "POST", "/api/create", {"model": "c", "stream": False})).status == 400


async def test_a_blob_that_is_no_gguf_makes_no_model() -> None:
    async with Ollama("a") as sim:
        digest = f"sha256:{hashlib.sha256(b'hello').hexdigest()}"
        await ask(sim, "POST", f"/api/blobs/{digest}", b"hello")
        lines = (await ask(sim, "POST", "/api/create", {"model": "b", "files": {"b.gguf": digest}})).lines()
        assert lines == [{"status": "parsing GGUF"}, {"error": "supplied file was not in GGUF format"}]


async def test_a_model_is_run_with_the_parameters_that_it_was_made_with() -> None:
    async with Ollama("llama3.2") as sim:
        body = {"model": "long", "from": "llama3.2", "parameters": {"num_ctx": 32768}}
        assert (await ask(sim, "POST", "/api/create", body)).lines()[-1] == {"status": "success"}
        await ask(sim, "POST", "/api/generate", {"model": "long"})
        assert (await ask(sim, "GET", "/api/ps")).json()["models"][0]["context_length"] == 32768
        assert (
            "num_ctx                        32768"
            in (await ask(sim, "POST", "/api/show", {"model": "long"})).json()["parameters"].splitlines()
        )


@pytest.mark.parametrize(
    ("more", "status", "error"),
    [
        ({}, 400, "neither 'from' or 'files' was specified"),
        ({"from": "a", "template": "{{ .Prompt"}, 400, "template: :1: unclosed action"),
        (
            {"from": "a", "quantize": "q99"},
            500,
            "unsupported quantization type Q99 - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0",
        ),
    ],
)
async def test_what_fails_before_the_first_line_takes_the_place_of_the_stream(
    more: dict[str, str], status: int, error: str
) -> None:
    async with Ollama("a") as sim:
        answer = await ask(sim, "POST", "/api/create", {"model": "b", **more})
        assert (answer.status, answer.json()) == (status, {"error": error})
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["transfer-encoding"] == "chunked"
        whole = await ask(sim, "POST", "/api/create", {"model": "b", "stream": False, **more})
        assert (whole.status, whole.json(), "content-length" in whole.headers) == (status, {"error": error}, True)


async def test_quantizing() -> None:
    async with Ollama("a") as sim:
        lines = (await ask(sim, "POST", "/api/create", {"model": "b", "from": "a", "quantize": "q8_0"})).lines()
        assert [lines[0]["status"], lines[1]["status"]] == ["quantizing Q4_K_M model to Q8_0", "verifying conversion"]
        shown = (await ask(sim, "POST", "/api/show", {"model": "b"})).json()
        assert shown["details"]["quantization_level"] == "Q8_0"


async def test_copying_and_deleting() -> None:
    async with Ollama("llama3.2") as sim:
        assert (await ask(sim, "POST", "/api/copy", {"source": "LLAMA3.2", "destination": "me/mine"})).body == b""
        await ask(sim, "POST", "/api/generate", {"model": "me/mine"})
        assert (await ask(sim, "DELETE", "/api/delete", {"model": "me/MINE"})).body == b""
        assert ("me/mine" in sim.store, sim.engine.loaded) == (False, {})
        assert (await ask(sim, "DELETE", "/api/delete", {"name": "llama3.2"})).status == 200
        assert sim.store.models == {}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("POST", "/api/copy", {"source": "nope", "destination": "b"}, 404, 'model "nope" not found'),
        ("POST", "/api/copy", {"source": "", "destination": "b"}, 400, 'source "" is invalid'),
        ("POST", "/api/copy", {"source": "a", "destination": "../b"}, 400, 'destination "../b" is invalid'),
        ("DELETE", "/api/delete", {"model": "nope"}, 404, "model 'nope' not found"),
        ("DELETE", "/api/delete", {"model": "a b"}, 400, 'name "a b" is invalid'),
        ("DELETE", "/api/delete", b"", 400, "missing request body"),
        ("POST", "/api/pull", {"model": "a b"}, 400, "invalid model name"),
        ("POST", "/api/push", {}, 400, "model is required"),
        ("POST", "/api/create", {"model": ""}, 400, "invalid model name"),
        ("POST", "/api/blobs/sha256:12", b"x", 400, "invalid digest format"),
    ],
)
async def test_what_is_refused(method: str, path: str, body: Any, status: int, error: str) -> None:
    async with Ollama("a") as sim:
        answer = await ask(sim, method, path, body)
        assert (answer.status, answer.json()) == (status, {"error": error})


async def test_blobs() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        assert (await wire.ask("HEAD", f"/api/blobs/{DIGEST}")).status == 404
        chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in (BLOB[:70_000], BLOB[70_000:])]
        head = f"POST /api/blobs/{DIGEST} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        await wire.send(head.encode() + b"".join(chunks) + b"0\r\n\r\n")
        assert (await wire.read()).status == 201
        assert (sim.last.body_bytes, sim.last.body) == (len(BLOB), b"")
        assert "content-length" not in (await wire.ask("HEAD", f"/api/blobs/{DIGEST}")).headers
        assert (await wire.ask("HEAD", f"/api/blobs/{DIGEST.replace(':', '-')}")).status == 200


async def test_a_blob_of_another_digest_is_refused() -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", f"/api/blobs/{DIGEST}", b"other")
        assert answer.status == 400
        assert answer.json()["error"].startswith(f'digest mismatch, expected "{DIGEST}", got "sha256:')


@pytest.mark.parametrize("there", [True, False])
async def test_a_blob_may_be_answered_before_it_was_read(there: bool) -> None:
    async with Ollama(early_blobs=not there) as sim, await Wire.open(sim) as wire:
        if there:
            sim.store.blobs[DIGEST] = len(BLOB)
        await wire.send(
            f"POST /api/blobs/{DIGEST} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n".encode()
        )
        answer = await wire.read()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert sim.last.body_bytes == 0
        assert await wire.rest() == b""


async def test_an_upload_that_nobody_takes_makes_the_client_wait() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        fault = sim.fault("stall", "/api/blobs/{digest}")
        await wire.send(
            f"POST /api/blobs/{DIGEST} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n".encode()
        )
        await sim.wait_for(lambda: fault.hits == 1)
        sending = asyncio.create_task(wire.send(b"x" * 20_000_000))
        await sim.wait_for(lambda: sim.last.unread > BODY_WINDOW)
        assert not sending.done()
        sending.cancel()
        assert sim.last.body_bytes < 1_000_000


async def test_a_client_that_leaves_in_an_upload() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        await wire.send(
            f"POST /api/blobs/{DIGEST} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\nabc".encode()
        )
        await sim.wait_for(lambda: sim.counters.active == 1 and sim.last.body_bytes == 3)
        wire.hang_up()
        await sim.wait_for(lambda: sim.counters.cancelled == 1)
        assert DIGEST not in sim.store.blobs


async def test_the_official_client_manages(clients: Clients) -> None:
    async with Ollama("llama3.2") as sim:
        client = clients.ollama(sim)
        progress = [part async for part in await client.pull("mistral", stream=True)]
        assert progress[-1].status == "success"
        assert progress[2].total
        assert (await client.pull("mistral")).status == "success"
        assert (await client.create("mine", from_="llama3.2", system="x")).status == "success"
        assert (await client.copy("mine", "yours")).status == "success"
        assert (await client.push("yours")).status == "success"
        assert (await client.delete("yours")).status == "success"
        with pytest.raises(ollama.ResponseError, match="file does not exist"):
            [part async for part in await client.pull("missing", stream=True)]
        with pytest.raises(ollama.ResponseError, match="not found"):
            await client.delete("yours")


def test_the_official_client_uploads(tmp_path: Any) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(BLOB)

    async def main() -> None:
        async with Ollama() as sim:
            client = ollama.Client(sim.url)
            digest = await asyncio.to_thread(client.create_blob, path)
            client.close()  # type: ignore[no-untyped-call]  # has no annotations
            assert (digest, sim.store.blobs[DIGEST]) == (DIGEST, len(BLOB))

    asyncio.run(main())
