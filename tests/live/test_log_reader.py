"""A reader of the log that stops costs no stream anything, and what it missed is counted."""

import asyncio
import os
from typing import Any

import orjson

from proxy.app import App
from proxy.server.server import serve
from proxy.simulator import Ollama
from proxy.telemetry.log_writer import Writer
from proxy.wiring import server_options
from tests.support.log_schema import check_line
from tests.support.metrics import Numbers
from tests.support.policy import load_text
from tests.support.wire import Client, ask, request

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
ROOM = 20
"""Lines that may wait; far fewer than are written here."""
REQUESTS = 300


async def test_nobody_reads_the_log() -> None:
    reader, writer = os.pipe()
    sink = Writer(writer, max_lines=ROOM)
    async with Ollama(num_parallel=20) as one:
        policy = f"listen: 127.0.0.1:0\nbackends: [{{name: b1, url: '{one.url}'}}]\nmiddleware: [logging, metrics]\n"
        app = App(load_text(policy), sink)
        async with serve(app.frame, server_options(app.settings)) as server:
            host, _, port = server.addresses[0].rpartition(":")
            address = host, int(port)
            stall = one.fault("stall", route="/api/chat", after=2)
            stream = await Client.connect(address)
            await stream.send(request("POST", "/api/chat", CHAT))
            await stream.read_head()
            for _ in range(REQUESTS // 10):
                replies = await asyncio.gather(*(ask(address, "POST", "/api/chat", CHAT) for _ in range(10)))
                assert all(reply.clean for reply in replies)
            stall.release()
            while await stream.read_chunk():
                pass
            await stream.close()
            async with asyncio.timeout(5):
                while app.frame.live:  # noqa: ASYNC110 (nothing tells of it)
                    await asyncio.sleep(0.005)
            dropped = Numbers(app.metrics.now())("ollama_proxy_log_lines_dropped_total") or 0
            assert dropped > REQUESTS / 4
        rest = asyncio.create_task(asyncio.to_thread(read_all, reader))
        sink.write(b'{"event":"after"}')  # somebody reads again
        await asyncio.to_thread(sink.close)
        os.close(writer)
        lines = (await rest).splitlines()
    events = [orjson.loads(line) for line in lines]
    for line in lines:
        check_line(line)
    told = sum(event["lines"] for event in events if event["event"] == "log_lines_dropped")
    kept = sum(event["event"] == "request" for event in events)
    lifespan = sum(event["event"] == "message" for event in events)
    assert told == sink.dropped
    assert kept + told + lifespan >= REQUESTS + 1
    assert kept < REQUESTS


def read_all(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        return file.read()
