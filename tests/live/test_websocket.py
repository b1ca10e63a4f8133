"""WebSockets through the whole proxy: messages that are request bodies, and what becomes of the connection."""

import asyncio
import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.proxy import Running, running
from tests.support.raw import PATIENCE, Raw
from tests.support.websocket import CHAT, HANDSHAKE, hear, hear_until, say, websocket
from tests.support.wire import ask

ANSWERS = [
    ("/api/chat", CHAT, "done"),
    ("/api/generate", {"model": "llama3.2", "prompt": "hi"}, "done"),
    ("/v1/chat/completions", {**CHAT, "stream": True}, "none"),
    ("/v1/completions", {"model": "llama3.2", "prompt": "hi", "stream": True}, "none"),
    ("/v1/messages", {**CHAT, "max_tokens": 9, "stream": True}, "stop"),
]


def texts(frames: list[Any]) -> str:
    return "".join(frame["message"]["content"] for frame in frames)


@pytest.mark.parametrize(("path", "body", "end"), ANSWERS, ids=[row[0] for row in ANSWERS])
async def test_each_line_and_each_event_is_one_frame(path: str, body: dict[str, Any], end: str) -> None:
    async with Ollama() as sim, running(sim.url) as proxy, websocket(proxy, path) as socket:
        plain = await ask(proxy.address, "POST", path, body)
        lines = [line for line in plain.body.replace(b"\n\n", b"\n").split(b"\n") if line]
        sent = [line.removeprefix(b"data: ") for line in lines if not line.startswith(b"event:")]
        await socket.send(json.dumps(body))
        async with asyncio.timeout(PATIENCE):
            heard = [await socket.recv(decode=False) for _ in sent]
        assert len(heard) > 3
        assert [_kind(frame) for frame in heard] == [_kind(line) for line in sent]
        assert sim.last.json() == body


def _kind(frame: bytes) -> object:
    return frame if frame == b"[DONE]" else json.loads(frame).keys()


async def test_one() -> None:
    async with Ollama() as sim, running(sim.url) as proxy, websocket(proxy) as socket:
        await say(socket, CHAT)
        frames = await hear_until(socket, "done")
        assert texts(frames)
        await say(socket, {**CHAT, "id": "a"})
        frames = await hear_until(socket, "done")
        assert {frame["id"] for frame in frames} == {"a"}
        assert "id" not in sim.last.json()
        await socket.send("{")
        print(await hear(socket))
        await say(socket, {"model": "none", "messages": []})
        print(await hear(socket))
        print(proxy.log.lines)
