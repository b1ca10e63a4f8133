"""The application is plain ASGI: under a server that is not ours it streams, and hears of a client that leaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest
import uvicorn
from starlette.testclient import TestClient

from config.load import load_data
from proxy.app import App
from proxy.simulator import Ollama
from proxy.testing import LogLines
from tests.support.backend import eventually
from tests.support.wire import Client, ask, request

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def application(sim: Ollama, log: LogLines) -> App:
    return App(load_data({"backends": [{"name": "a", "url": sim.url}], "middleware": ["logging", "retry"]}), log)


@asynccontextmanager
async def served(app: App, http: Literal["h11", "httptools"]) -> AsyncIterator[tuple[str, int]]:
    """Serve with uvicorn as it is; give the address."""
    server = uvicorn.Server(uvicorn.Config(app.frame, port=0, http=http, log_config=None))
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    yield "127.0.0.1", server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_uvicorn_as_it_is(http: Literal["h11", "httptools"]) -> None:
    log = LogLines()
    async with Ollama() as sim, served(application(sim, log), http) as address:
        reply = await ask(address, "POST", "/api/chat", CHAT)
        assert (reply.status, reply.clean) == (200, True)
        line = await log.request()
        assert (line["outcome"], line["chunks"], line["bytes_out"]) == ("completed", len(reply.chunks), len(reply.body))
        assert (await ask(address, "HEAD", "/")).status == 200


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_a_client_of_uvicorns_that_leaves_is_heard(http: Literal["h11", "httptools"]) -> None:
    log = LogLines()
    async with Ollama(token_delay=0.01, tokens=10_000) as sim, served(application(sim, log), http) as address:
        client = await Client.connect(address)
        await client.send(request("POST", "/api/chat", CHAT))
        await client.read_head()
        client.hang_up()
        await sim.wait_for(lambda: sim.counters.active == 0)
        assert (await log.request())["outcome"] == "client_gone"


async def test_starlettes_test_client() -> None:
    async with Ollama() as sim:

        def use() -> tuple[int, int]:
            with TestClient(application(sim, LogLines()).frame, base_url="http://localhost") as client:
                reply = client.post("/api/chat", json=CHAT)
                return reply.status_code, len(reply.text.splitlines())

        status, lines = await asyncio.to_thread(use)
        assert status == 200
        assert lines == sim.seen("/api/chat")[-1].sent_chunks  # the last request of all may be a probe
