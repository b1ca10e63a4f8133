"""What the client receives is byte for byte, chunk for chunk, what the backend sent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middleware import BUILTIN
from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.simulator import Ollama
from tests.support.proxy import running
from tests.support.wire import Client, Reply, ask, request

CHAT = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
NDJSON_END = b'{"model":"m","done":true,"prompt_eval_count":3,"eval_count":2}\n'
SSE_END = b"data: [DONE]\n\n"


def framed(chunks: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, list[bytes], list[int]]:
    """A content type, the chunks of an answer that ends as it must, and where its wire form is cut."""
    kind, end = draw(st.sampled_from([(b"application/x-ndjson", NDJSON_END), (b"text/event-stream", SSE_END)]))
    text = st.text(min_size=1, max_size=80).map(str.encode)
    big = st.integers(1, 65_536).map(lambda size: b"x" * size)
    record = st.one_of(text, text.map(lambda part: part + b"\n"), st.binary(min_size=1, max_size=40), big)
    chunks = draw(st.lists(record, max_size=8))
    if draw(st.booleans()):
        # In the middle of UTF-8 and JSON: one body, cut anywhere into chunks.
        whole = b"".join(chunks) + "é€😀".encode() + b"\n" + end
        cuts = sorted(draw(st.lists(st.integers(1, len(whole) - 1), max_size=10, unique=True)))
        chunks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        chunks = [part[at : at + 65_536] for part in chunks for at in range(0, len(part), 65_536)]
    else:
        # The terminator stands on a line of its own.
        chunks += [b"\n\n" + end]
    wire_length = len(framed(chunks))
    cuts = sorted(draw(st.lists(st.integers(1, wire_length - 1), max_size=12, unique=True)))
    return kind, chunks, cuts


QUIET = [
    "logging",
    "metrics",
    {"tracing": {"sample": "0%"}},
    {"cors": {"origins": ["https://chat.example.com"]}},
    {"auth": {"keys": "keys.yaml"}},
    {"access": {"models": ["*"]}},
    {"parameters": {"num_ctx": {"max": 8192}}},
    "defer",
    {"rate_limit": {"requests": "100000/second", "tokens": "100000000/hour", "streams": 1000}},
    {"streaming": {"heartbeat": "15s", "include_usage": "add", "unterminated": "error"}},
    "responses",
    "resumable",
    "queue",
    "retry",
]
"""Every built-in plugin that does not look at chunks: they take the short way."""
ALL = [*QUIET, {"capture": {"prompt": "1KiB", "answer": "8KiB"}}]
CHAINS = pytest.mark.parametrize("chain", [QUIET, ALL], ids=["the short way", "with capture"])


def test_all_built_in_plugins_are_on() -> None:
    assert {next(iter(entry)) if isinstance(entry, dict) else entry for entry in ALL} == BUILTIN.keys()


def keyed(folder: Path) -> dict[str, str]:
    """Write a key file; return the header that its key comes in."""
    key, entry = new_key("alice", now=0.0)
    add_key(folder / "keys.yaml", entry)
    return {"Authorization": f"Bearer {key}"}


@CHAINS
@settings(max_examples=40, deadline=None)
@given(answer=answers())
async def test_every_chunk_comes_through_as_it_was(
    chain: list[object], answer: tuple[bytes, list[bytes], list[int]]
) -> None:
    kind, chunks, cuts = answer
    wire = framed(chunks)
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    with TemporaryDirectory() as folder:
        headers = keyed(Path(folder))
        async with Ollama() as sim, running(sim.url, middleware=chain, folder=Path(folder)) as proxy:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % kind
            sim.script(head, *pieces, route="/api/chat", finish="keep")
            reply = await ask(proxy.address, "POST", "/api/chat", CHAT, headers)
            assert reply.chunks == chunks
            assert reply.clean
            line = await proxy.log.request()
            assert line["outcome"] == "completed"
            assert (line["chunks"], line["bytes_out"]) == (len(chunks), sum(map(len, chunks)))


@CHAINS
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_every_flavor_with_the_whole_chain(path: str, chain: list[object], tmp_path: Path) -> None:
    """What the simulator wrote and what the client got are the same bytes in the same chunks."""
    headers = keyed(tmp_path)
    body = {**CHAT, "stream": True, "max_tokens": 12, "input": "hi", "stream_options": {"include_usage": True}}
    async with (
        Ollama() as sim,
        overheard(sim.url) as (url, wire),
        running(url, middleware=chain, folder=tmp_path) as proxy,
    ):
        through = await ask(proxy.address, "POST", path, body, headers)
        assert through.status == 200, through.body
        assert through.clean
        sent = await read_from(bytes(wire))
        assert sent.clean
        assert len(sent.chunks) > 12
        assert through.chunks == sent.chunks
        line = await proxy.log.request()
        assert line["identity"] == "alice"
        assert line["outcome"] == "completed"
        assert line["tokens_source"] == "reported"


@asynccontextmanager
async def overheard(url: str) -> AsyncIterator[tuple[str, bytearray]]:
    """Stand between a backend and who asks it; give a URL and what the backend wrote, byte by byte."""
    host, _, port = url.removeprefix("http://").partition(":")
    wire = bytearray()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: bytearray) -> None:
        while data := await reader.read(2**16):
            note += data
            writer.write(data)
            await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_backend, to_backend = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(reader, to_backend, bytearray()), pump(from_backend, writer, wire))

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", wire


async def read_from(wire: bytes) -> Reply:
    """Return the answer that stands in `wire`."""
    reader = asyncio.StreamReader()
    reader.feed_data(wire)
    reader.feed_eof()
    return await Client(reader, cast(asyncio.StreamWriter, None)).read()  # nothing is written


async def test_a_chunk_is_passed_on_before_the_next_one_comes() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        fault = sim.fault("stall", route="/api/chat", after=2)
        client = await Client.connect(proxy.address)
        await client.send(request("POST", "/api/chat", CHAT))
        await client.read_head()
        assert await client.read_chunk()
        assert await client.read_chunk()
        fault.release()
        while await client.read_chunk():
            pass
        await client.close()


async def test_a_thousand_streams_at_once_do_not_mix() -> None:
    async with Ollama(num_parallel=1000) as sim, running(sim.url) as proxy:

        async def one(number: int) -> None:
            body = {"model": "llama3.2", "prompt": f"prompt {number}", "options": {"num_predict": 5}, "stream": True}
            reply = await ask(proxy.address, "POST", "/api/generate", body)
            assert reply.clean
            assert len(reply.chunks) == 6
            replies[number] = reply.body

        replies: dict[int, bytes] = {}
        for start in range(0, 1000, 250):
            await asyncio.gather(*(one(number) for number in range(start, start + 250)))
        assert len(replies) == 1000


async def test_the_final_object_of_300_kb_split_anywhere_is_read() -> None:
    async with Ollama(context=60_000) as sim, running(sim.url) as proxy:
        sim.fault("split", route="/api/generate", every=777)
        reply = await ask(proxy.address, "POST", "/api/generate", {"model": "llama3.2", "prompt": "hi"})
        assert reply.clean
        assert len(reply.body) > 250_000
        line = await proxy.log.request()
        assert line["tokens_source"] == "reported"
        assert line["tokens_out"] == sim.counters.tokens_generated


async def test_request_bodies_arrive_as_they_were_sent() -> None:
    body = b'{ "model":"llama3.2",  "prompt":"\xc3\xa9\\u00e9", "stream" : false, "options":{"num_predict":1}}'
    async with Ollama() as sim, running(sim.url) as proxy:
        reply = await ask(proxy.address, "POST", "/api/generate", body, {"Content-Type": "text/plain"})
        assert reply.status == 200
        assert sim.last.body == body
        assert sim.last.header("content-length") == str(len(body)).encode()
        assert sim.last.header("host") == sim.url.removeprefix("http://").encode()
        assert sim.last.header("transfer-encoding") is None
