"""SIGTERM in the middle of two hundred streams: half of them can end in time, half of them cannot."""

import asyncio
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.backend import Peer, backend, reply
from tests.support.process import Process
from tests.support.wire import Client, Reply, ask, request

STREAMS: Final = 200
PATHS: Final = ("/api/chat", "/v1/chat/completions")
TYPES: Final = {"/api/chat": b"application/x-ndjson", "/v1/chat/completions": b"text/event-stream"}
LISTS: Final = {
    "/api/version": {"version": "0.33.0"},
    "/api/tags": {"models": [{"name": "llama3.2:latest", "model": "llama3.2:latest"}]},
    "/api/ps": {"models": []},
}
ENDS: Final = {
    "/api/chat": b'{"error":"the proxy is shutting down',
    "/v1/chat/completions": b'data: {"error":{"message":"the proxy is shutting down',
}


def answer(path: str, number: int) -> list[bytes]:
    """Return the chunks of one answer; no two are alike."""
    words = [f"{number} é{'x' * (number * step % 4000)}" for step in range(1, 6)]
    if path == "/api/chat":
        documents = [
            *({"message": {"content": word}, "done": False} for word in words),
            {"done": True, "eval_count": 5},
        ]
        return [json.dumps(document).encode() + b"\n" for document in documents]
    events = [json.dumps({"choices": [{"delta": {"content": word}}]}) for word in words]
    return [f"data: {event}\n\n".encode() for event in [*events, "[DONE]"]]


class Host:
    """An Ollama that says two chunks and then waits for `gate`; what has an odd number never ends."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        while True:
            head, _, body = (await peer.request()).partition(b"\r\n\r\n")
            path = head.split(b" ")[1].decode()
            if path in LISTS:
                await peer.send(reply(json.dumps(LISTS[path]).encode()))
                continue
            number = int(re.findall(rb'"content": "(\d+)"', body)[0])
            chunks = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in answer(path, number)]
            start = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % TYPES[path]
            await peer.send(start, *chunks[:2])
            await self.gate.wait()
            await peer.send(*chunks[2:4])
            if number % 2:
                return await peer.gone()
            await peer.send(*chunks[4:], b"0\r\n\r\n")


async def ask_and_read_two(address: tuple[str, int], number: int) -> tuple[Client, Reply]:
    client = await Client.connect(address)
    messages = [{"role": "user", "content": str(number)}]
    path = PATHS[number // 2 % 2]
    await client.send(request("POST", path, {"model": "llama3.2", "messages": messages, "stream": True}))
    seen = await client.read_head()
    seen.chunks += [await client.read_chunk(), await client.read_chunk()]
    return client, seen


async def read_on(client: Client, seen: Reply) -> Reply:
    try:
        while chunk := await client.read_chunk():
            seen.chunks.append(chunk)
        seen.clean = True
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    client.hang_up()
    return seen


@pytest.mark.timeout(60)
async def test_those_in_time_end_whole_the_others_honestly_and_the_process_well(tmp_path: Path) -> None:
    host = Host()
    async with backend(host) as upstream:
        settings: dict[str, Any] = {
            "listen": "127.0.0.1:0",
            "ops": {"listen": "127.0.0.1:0"},
            "server": {"shutdown": "3s"},
            "backends": [{"name": "b1", "url": upstream.url}],
            "middleware": ["logging", "metrics", "queue", "retry"],
        }
        async with Process.started(tmp_path / "proxy.yaml", settings) as proxy:
            ops = await ops_address(proxy)
            assert (await ask(ops, "GET", "/-/readyz")).status == 200
            streams = await asyncio.gather(*(ask_and_read_two(proxy.address, number) for number in range(STREAMS)))
            stopping = asyncio.create_task(proxy.stop())
            async with asyncio.timeout(10):
                while (await ask(ops, "GET", "/-/readyz")).status == 200:
                    pass
            with pytest.raises(ConnectionError):
                await Client.connect(proxy.address)
            host.gate.set()
            ended = await asyncio.gather(*(read_on(client, seen) for client, seen in streams))
            lines = await stopping  # it has looked at the exit code
    for number, seen in enumerate(ended):
        path = PATHS[number // 2 % 2]
        whole = answer(path, number)
        if number % 2:
            assert not seen.clean
            assert seen.chunks[:4] == whole[:4]
            assert [chunk.startswith(ENDS[path]) for chunk in seen.chunks[4:]] == [True]
        else:
            assert seen.clean
            assert seen.chunks == whole
    outcomes = Counter(line["outcome"] for line in lines if line["route"] in PATHS)
    assert outcomes == {"completed": STREAMS // 2, "shutdown": STREAMS // 2}


async def ops_address(proxy: Process) -> tuple[str, int]:
    """Return where the ops routes are, by what the process says when it starts."""
    assert proxy.process.stderr is not None
    async with asyncio.timeout(10):
        while not (found := re.search(rb"page +http://([\d.]+):(\d+)", await proxy.process.stderr.readline())):
            pass
    return found[1].decode(), int(found[2])
