import re

import pytest

from proxy.simulator import Ollama
from proxy.simulator.http_reply import http_date, reason
from tests.proxy.simulator.client import Wire, ask, chat, encode


async def test_streams_are_one_record_per_chunk() -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", "/api/chat", chat(5))
        assert len(answer.chunks) == 6
        assert all(chunk.endswith(b"\n") and chunk.count(b"\n") == 1 for chunk in answer.chunks)
        assert answer.chunks == sim.last.sent
        assert sim.last.sent_chunks == 6


async def test_the_head_is_go_s() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        await wire.send(encode("POST", "/api/chat", chat(1)))
        head = await wire.head()
        assert [name for name, _ in head.fields] == ["Content-Type", "Date", "Transfer-Encoding"]
        await wire.send(encode("GET", "/api/version"))
        while await wire.chunk():
            pass
        assert [name for name, _ in (await wire.read()).fields] == ["Content-Type", "Date", "Content-Length"]


@pytest.mark.parametrize(("models", "framing"), [(3, "content-length"), (30, "transfer-encoding")])
async def test_short_bodies_have_a_length_and_long_ones_are_one_chunk(models: int, framing: str) -> None:
    async with Ollama(*(f"model-{number}" for number in range(models))) as sim:
        answer = await ask(sim, "GET", "/api/tags")
        assert framing in answer.headers
        assert (len(answer.body) > 2048, len(answer.chunks)) == (models == 30, 1)
        assert len(answer.json()["models"]) == models


async def test_head_requests_have_no_body() -> None:
    async with Ollama(*(f"model-{number}" for number in range(9))) as sim, await Wire.open(sim) as wire:
        for target, length in (("/", "17"), ("/api/version", "20"), ("/api/tags", None)):
            answer = await wire.ask("HEAD", target)
            assert (answer.status, answer.headers.get("content-length"), answer.body) == (200, length, b"")
        assert (await wire.ask("GET", "/")).body == b"Ollama is running"


async def test_nothing_is_written_before_the_first_token() -> None:
    async with Ollama(prompt_delay=60) as sim, await Wire.open(sim) as wire:
        await wire.send(encode("POST", "/api/chat", chat()))
        await sim.wait_for(lambda: sim.counters.generating == 1)
        assert (sim.counters.bytes_out, sim.last.status) == (0, None)


async def test_the_head_and_the_first_token_are_one_write() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        sim.fault("stall", after=1)
        await wire.send(encode("POST", "/api/chat", chat(2)))
        first = await wire.reader.read(65_536)
        assert first.startswith(b"HTTP/1.1 200 OK\r\n")
        assert first.endswith(b'"done":false}\n\r\n')


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
@pytest.mark.parametrize(("stream", "expected"), [(True, ["keep-alive"]), (False, [])])
async def test_streams_of_events_name_their_connection(path: str, stream: bool, expected: list[str]) -> None:
    message = {"role": "user", "content": "hi"}
    body = {"model": "llama3.2", "input": "hi", "messages": [message], "max_tokens": 3, "stream": stream}
    async with Ollama() as sim:
        for model, status in (("llama3.2", 200), ("nope", 404)):
            answer = await ask(sim, "POST", path, {**body, "model": model})
            assert (answer.status, answer.headers.get("cache-control")) == (status, "no-cache" if stream else None)
            assert [value for name, value in answer.fields if name == "Connection"] == expected
        closed = await ask(sim, "POST", path, body, "Connection: close")
        assert [value for name, value in closed.fields if name == "Connection"] == ["close"]


async def test_an_empty_answer_has_a_length_of_zero() -> None:
    async with Ollama() as sim:
        answer = await ask(sim, "POST", "/api/copy", {"source": "llama3.2", "destination": "mine"})
        assert (answer.status, answer.headers["content-length"]) == (200, "0")
        assert "content-type" not in answer.headers


def test_reasons_and_dates() -> None:
    assert (reason(200), reason(404), reason(499)) == (b"OK", b"Not Found", b"status code 499")
    assert re.fullmatch(rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", http_date())
