"""A few bytes that cost seconds: refused at once, and whoever is served meanwhile notices nothing."""

import asyncio
from typing import Any

import pytest
import zstandard

from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.proxy import running
from tests.support.wire import Client, request

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def packed(text: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=19).compress(text)


LISTS = b'{"model":"llama3.2","x":[' + b"[]," * 3_000_000 + b"1]}"
PARTS = b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\n\r\n" * 80_000 + b"--b--"
FORM = "Content-Type: multipart/form-data; boundary=b"
ATTACKS = {
    "packed lists": ("/v1/chat/completions", packed(LISTS), "Content-Encoding: zstd", 413),
    "packed values": (
        "/v1/chat/completions",
        packed(b'{"x":[' + b"1," * 400_000 + b"1]}"),
        "Content-Encoding: zstd",
        400,
    ),
    "packed opening brackets": ("/v1/messages", packed(b"[" * 900_000), "Content-Encoding: zstd", 400),
    "lists": ("/api/chat", LISTS, "", 400),
    "keys": ("/api/chat", b'{"model":"llama3.2"' + b"".join(b',"%d":1' % n for n in range(200_000)) + b"}", "", 400),
    "parts": ("/v1/audio/transcriptions", PARTS, FORM, 400),
}


@pytest.mark.parametrize("middleware", [["logging"], ["logging", "access"]], ids=["open", "policed"])
@pytest.mark.parametrize(("path", "body", "field", "status"), ATTACKS.values(), ids=ATTACKS)
async def test_refused_before_a_backend_sees_it(
    path: str, body: bytes, field: str, status: int, middleware: list[str]
) -> None:
    if path.endswith("transcriptions") and "access" not in middleware:
        pytest.skip("a form without a policy is passed on for Ollama to refuse")
    async with Ollama() as sim, running(sim.url, middleware=middleware) as proxy:
        client = await Client.connect(proxy.address)
        await client.send(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{field}".rstrip().encode()
            + b"\r\n\r\n"
            + body
        )
        answer = await client.read()
        client.hang_up()
        assert answer.status == status
        assert not sim.requests


async def test_a_stream_goes_on_while_the_dearest_bodies_are_read() -> None:
    """Chunks come while a body is read that is as dear as one may be, not only when it has been."""
    dear = b'{"model":"secret","x":[' + b",".join([b'{"a": 1, "b": []}'] * 24_000) + b"]}"
    async with Ollama() as sim, running(sim.url, middleware=["logging", {"access": {"models": ["llama3.2"]}}]) as proxy:
        sim.settings.token_delay, sim.settings.tokens = 0.001, 100_000
        watcher = await Client.connect(proxy.address)
        await watcher.send(request("POST", "/api/chat", CHAT))
        await watcher.read_head()
        (stream,) = proxy.app.frame.live
        before = stream.chunks
        attack = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(dear) + dear
        attackers = [await Client.connect(proxy.address) for _ in range(4)]
        await asyncio.gather(*(attacker.send(attack) for attacker in attackers))
        answers = await asyncio.gather(*(attacker.read() for attacker in attackers))
        assert {answer.status for answer in answers} == {403}
        assert stream.chunks - before > len(attackers)
        for client in (watcher, *attackers):
            client.hang_up()
        await eventually(lambda: not proxy.app.frame.live)
