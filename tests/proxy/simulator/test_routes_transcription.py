import pytest

from proxy.simulator import Ollama
from proxy.simulator.routes_transcription import read_form
from tests.proxy.simulator.client import Answer, ask
from tests.proxy.simulator.conftest import Clients

TYPE = "Content-Type: multipart/form-data; boundary=frontier"


def form(*parts: tuple[str, bytes]) -> bytes:
    body = b"".join(
        b'--frontier\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
        % (name.encode() if name != "file" else b'file"; filename="a.wav', content)
        for name, content in parts
    )
    return body + b"--frontier--\r\n"


async def post(sim: Ollama, *parts: tuple[str, bytes], query: str = "") -> Answer:
    return await ask(sim, "POST", f"/v1/audio/transcriptions{query}", form(*parts), TYPE)


async def test_transcribing() -> None:
    async with Ollama() as sim:
        answer = await post(sim, ("model", b"llama3.2"), ("file", b"RIFF\x00\xff\r\n--front"))
        assert (list(answer.json()), answer.headers["content-type"]) == (["text"], "application/json")
        assert sim.last.model == "registry.ollama.ai/library/llama3.2:latest"
        again = await post(sim, ("model", b"llama3.2"), ("file", b"RIFF\x00\xff\r\n--front"))
        assert again.body == answer.body


async def test_plain_text() -> None:
    async with Ollama() as sim:
        answer = await post(sim, ("model", b"llama3.2"), ("response_format", b"text"), ("file", b"RIFF"))
        assert answer.headers["content-type"] == "text/plain"


async def test_the_query_names_the_model_before_the_form_does() -> None:
    async with Ollama() as sim:
        await post(sim, ("model", b"llama3.2"), ("file", b"x"), query="?model=qwen3")
        assert sim.last.model == "registry.ollama.ai/library/qwen3:latest"
        await post(sim, ("file", b"x"), query="?model=qwen3")
        assert sim.last.status == 200


@pytest.mark.parametrize(
    ("parts", "status", "message"),
    [
        ([("file", b"x")], 400, "model is required"),
        ([("model", b"llama3.2")], 400, "file is required: http: no such file"),
        ([("model", b"llama3.2"), ("file", b"")], 400, "audio file is empty"),
        ([("model", b"nope"), ("file", b"x")], 404, "model 'nope' not found"),
    ],
)
async def test_what_is_refused(parts: list[tuple[str, bytes]], status: int, message: str) -> None:
    async with Ollama() as sim:
        answer = await post(sim, *parts)
        assert (answer.status, answer.json()["error"]["message"]) == (status, message)


async def test_only_forms_are_taken() -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", "/v1/audio/transcriptions", {"model": "llama3.2"})
        assert (answer.status, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_of_two_equal_fields_the_first_counts() -> None:
    fields, audio = read_form(TYPE.partition(": ")[2].encode(), form(("a", b"1"), ("a", b"2"), ("file", b"\x00\r\n")))
    assert (fields, audio) == ({"a": "1"}, b"\x00\r\n")


async def test_failures_and_a_full_queue() -> None:
    async with Ollama() as sim:
        sim.fault("error", message="it died")
        assert (await post(sim, ("model", b"llama3.2"), ("file", b"x"))).status == 500


async def test_the_official_client_transcribes(clients: Clients) -> None:
    async with Ollama() as sim:
        client = clients.openai(sim)
        heard = await client.audio.transcriptions.create(model="llama3.2", file=("a.wav", b"RIFF" * 100))
        assert heard.text
