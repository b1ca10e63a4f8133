"""proxy/server/chunk_writer.py, and who may take it, over real sockets."""

import asyncio
from typing import Any

import pytest

from proxy.kernel.asgi import ASGIApp, Message, Receive, Scope, Send
from proxy.kernel.exchange import Exchange
from proxy.simulator import Ollama
from proxy.testing import suppose
from tests.support.backend import Peer, backend, eventually
from tests.support.proxy import running
from tests.support.wire import Client, ask, request

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}


class Counts:
    """A plugin that notes what the frame's `send` is given, without the chain below knowing of it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        assert exchange.shortcut is not None
        write = exchange.shortcut[1]

        def counted(chunk: bytes) -> bool:
            BY_SHORTCUT.append(chunk)
            return write(chunk)

        suppose(exchange, shortcut=(send, counted))
        await self.app(scope, receive, send)


class Wraps:
    """A plugin that has to see each chunk."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def seen(message: Message) -> None:
            if message.get("body"):
                WRAPPED.append(message["body"])
            await send(message)

        await self.app(scope, receive, seen)


class Announces:
    """A plugin that says how long the answer will be, and is wrong."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        Exchange.of(scope).response_headers.append((b"content-length", b"20"))
        await self.app(scope, receive, send)


BY_SHORTCUT: list[bytes] = []
WRAPPED: list[bytes] = []
COUNTS, WRAPS, ANNOUNCES = ({"use": f"{__name__}:{plugin.__name__}"} for plugin in (Counts, Wraps, Announces))


@pytest.fixture(autouse=True)
def _afresh() -> None:
    BY_SHORTCUT.clear()
    WRAPPED.clear()


async def test_all_chunks_but_the_first_take_it() -> None:
    async with Ollama(tokens=9, token_delay=0.002) as sim, running(sim.url, middleware=["logging", COUNTS]) as proxy:
        reply = await ask(proxy.address, "POST", "/api/chat", CHAT)
        assert reply.clean
        assert len(reply.chunks) == 10
        assert reply.chunks[-len(BY_SHORTCUT) :] == BY_SHORTCUT
        assert len(BY_SHORTCUT) >= 8  # the second may have come along with the first
        line = await proxy.log.request()
        assert (line["chunks"], line["bytes_out"]) == (10, len(reply.body))
        assert (line["tokens_out"], line["tokens_source"], line["outcome"]) == (9, "reported", "completed")


async def test_who_wraps_send_sees_every_chunk() -> None:
    async with Ollama(tokens=9) as sim, running(sim.url, middleware=["logging", COUNTS, WRAPS]) as proxy:
        reply = await ask(proxy.address, "POST", "/api/chat", CHAT)
        assert reply.clean
        assert reply.chunks == WRAPPED
        assert BY_SHORTCUT == []


async def test_a_client_that_does_not_keep_up_is_waited_for_and_then_takes_it_again() -> None:
    """By neither way is a chunk lost, repeated or passed by another."""
    records = [b'{"response":"%0200d","done":false}\n' % number for number in range(60_000)]
    records.append(b'{"done":true,"prompt_eval_count":1,"eval_count":60000}\n')

    async def script(peer: Peer) -> None:
        await peer.request()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        await peer.send(head, *(b"".join(map(framed, records[at : at + 50])) for at in range(0, len(records), 50)))
        await peer.send(b"0\r\n\r\n")

    async with backend(script) as talker, running(talker.url, middleware=["logging", COUNTS]) as proxy:
        client = await Client.connect(proxy.address)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request("POST", "/api/chat", CHAT))
        await eventually(lambda: any(connection.flow.write_paused for connection in proxy.server._connections()))
        so_far = len(BY_SHORTCUT)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        reply = await client.read()
        assert reply.clean
        assert reply.chunks == records
        assert len(BY_SHORTCUT) > so_far > 0
        line = await proxy.log.request()
        assert (line["chunks"], line["bytes_out"], line["tokens_out"]) == (60_001, len(reply.body), 60_000)
        await client.close()


def framed(chunk: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(chunk), chunk)


async def test_an_answer_of_another_length_than_a_plugin_announced_fails_as_it_does_with_send() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await asyncio.sleep(0.02)  # so that it is a read of its own on the other side
        await peer.send(b"3\r\ntwo\r\n0\r\n\r\n")

    async with backend(script) as chatty, running(chatty.url, middleware=["logging", COUNTS, ANNOUNCES]) as proxy:
        client = await Client.connect(proxy.address)
        await client.send(request("GET", "/api/version"))
        assert (await client.read_head()).headers["content-length"] == "20"
        assert await client.reader.read() == b"one"
        assert BY_SHORTCUT == [b"two"]
        await client.close()
