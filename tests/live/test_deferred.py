"""Requests that run later: accepted, run when a slot is free, answered byte for byte, from any byte."""

from typing import Any

import orjson
import pytest

from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.proxy import Running, running
from tests.support.wire import ask

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
CHAIN = ["logging", "defer", "queue", "retry"]


async def test_smoke() -> None:
    async with Ollama(tokens=10) as ollama, running(ollama.url, middleware=CHAIN) as proxy:
        reply = await ask(proxy.address, "POST", "/api/chat", CHAT, headers={"Prefer": "respond-async"})
        print(reply.status, reply.headers, reply.body)
        got = await ask(proxy.address, "GET", reply.headers["location"] + "/answer", headers={"Prefer": "wait=10"})
        print(got.status, got.headers, got.body)
        got = await ask(proxy.address, "GET", reply.headers["location"])
        print(got.status, got.body)
        print(proxy.log.requests)
        assert 0
