"""WebSockets of clients that mean harm, or know no better: frames by the bytes, floods, ids, keys, reloads, workers."""

import asyncio
import json
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from middleware.auth.key_file_editor import add_key, revoke_keys
from middleware.auth.keys import new_key
from proxy.simulator import Ollama
from tests.live.test_websocket import closed, eventually_refused
from tests.proxy.server.test_websocket_connection import frame
from tests.support.backend import eventually
from tests.support.certificates import Authority
from tests.support.process import Process
from tests.support.proxy import Running, running
from tests.support.raw import PATIENCE, Raw
from tests.support.redis import redis_server
from tests.support.websocket import CHAT, HANDSHAKE, hear, hear_until, say, websocket
from tests.support.wire import ask

TOKENS: Final = 8
TEXT: Final = json.dumps(CHAT).encode()


@asynccontextmanager
async def raw(proxy: Running, path: bytes = b"/api/chat", **options: Any) -> AsyncIterator[Raw]:
    async with await Raw.open(proxy.server.addresses[0], **options) as client:
        await client.send(HANDSHAKE % (path, b""))
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        yield client


async def code(client: Raw) -> int:
    """Read to the end of the connection; return the code of the closing frame, which is the last one."""
    said = await client.rest()
    assert not client.was_reset
    at = said.rindex(b"\x88")
    return int.from_bytes(said[at + 2 : at + 4])


CLOSE: Final = 0x88
ENDS: Final = {
    "no mask": (b"\x81\x02{}", 1002),
    "first reserved bit": (frame(0xC1, b"{}"), 1002),
    "second reserved bit": (frame(0xA1, b"{}"), 1002),
    "third reserved bit": (frame(0x91, b"{}"), 1002),
    "unknown opcode": (frame(0x83, b"{}"), 1002),
    "unknown control frame": (frame(0x8B, b""), 1002),
    "long ping": (frame(0x89, b"x" * 126), 1002),
    "ping in fragments": (frame(0x09, b""), 1002),
    "message in a message": (frame(0x01, b"{") + frame(0x81, b"{}"), 1002),
    "fragment of nothing": (frame(0x80, b"}"), 1002),
    "binary": (frame(0x82, b"{}"), 1003),
    "binary in fragments": (frame(0x02, b"{"), 1003),
    "no UTF-8": (frame(0x81, b'{"model":"\xff"}'), 1007),
    "surrogate": (frame(0x81, b'"\xed\xa0\x80"'), 1007),
    "half a letter": (frame(0x01, b'"\xc3') + frame(0x80, b'"'), 1007),
    "length of 2^63": (b"\x81\xff" + b"\xff" * 8 + b"\0" * 4, 1009),
    "length of 2^62": (b"\x81\xff\x3f" + b"\xff" * 7 + b"\0" * 4, 1009),
    "a thousand fragments": (frame(0x01, b"x" * 64) + frame(0x00, b"x" * 64) * 1000, 1009),
    "close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "close with no code": (frame(CLOSE, (999).to_bytes(2)), 1002),
    "close with a reserved code": (frame(CLOSE, (1005).to_bytes(2)), 1002),
    "close with a bad reason": (frame(CLOSE, (1000).to_bytes(2) + b"\xff"), 1007),
    "close": (frame(CLOSE, (1000).to_bytes(2) + b"bye"), 1000),
    "close of an application": (frame(CLOSE, (4321).to_bytes(2)), 4321),
    "close in a message": (frame(0x01, b"{") + frame(CLOSE, (1000).to_bytes(2)), 1002),
    "messages behind a close": (frame(CLOSE, (1000).to_bytes(2)) + frame(0x81, TEXT), 1000),
}


@pytest.mark.parametrize(("sent", "expected"), ENDS.values(), ids=ENDS)
async def test_frames_end_a_socket_with_a_code_that_the_client_reads(sent: bytes, expected: int) -> None:
    small = {"body": {"each": "4KiB", "share": "100%"}}
    async with Ollama() as sim, running(sim.url, server=small) as proxy, raw(proxy) as client:
        await client.send(sent)
        reading = asyncio.create_task(code(client))
        await eventually(lambda: not proxy.app.bodies.held)
        assert await reading == expected
        assert not sim.requests


async def test_odd_frames_that_are_right_are_served() -> None:
    """Empty fragments, pings and pongs nobody asked for within a message, an empty close."""
    async with Ollama() as sim, running(sim.url) as proxy, raw(proxy) as client:
        await client.send_bytewise(
            frame(0x01, b"") + frame(0x8A, b"unasked") + frame(0x00, TEXT[:5]) + frame(0x89, b"x" * 125)
            + frame(0x00, b"") + frame(0x80, TEXT[5:])
        )  # fmt: skip
        assert await client.exactly(127) == b"\x8a\x7d" + b"x" * 125
        await client.until(b'"done":true')
        await client.send(frame(CLOSE, b""))
        assert (await client.rest()).endswith(b"\x88\x00")
        assert sim.last.json() == CHAT


@pytest.mark.parametrize("flood", [frame(0x89, b""), frame(0x81, b""), frame(0x81, b"{"), frame(0x0, b"")], ids=repr)
async def test_a_flood_of_small_frames_keeps_nobody_waiting(flood: bytes) -> None:
    """Another client's stream goes on while hundreds of thousands of frames come in."""
    async with Ollama(tokens=100_000, token_delay=0.001) as sim, running(sim.url) as proxy, websocket(proxy) as socket:
        await say(socket, {**CHAT, "id": "a"})
        await hear(socket)
        (stream,) = proxy.app.frame.live
        async with raw(proxy) as client:
            begin = frame(0x01, b"") if flood[0] == 0 else b""
            before = stream.chunks
            sending = asyncio.create_task(client.send(begin + flood * 100_000 + frame(CLOSE, b"")))
            reading = asyncio.create_task(client.rest())
            await sending
            await reading
            assert stream.chunks - before > 100
        assert stream in proxy.app.frame.live


async def test_who_reads_nothing_is_read_no_more_and_cut() -> None:
    """Errors are frames too: thousands of bad messages must not pile up their errors."""
    async with Ollama() as sim, running(sim.url, server={"write": "300ms"}) as proxy:
        async with raw(proxy, receive_buffer=4096) as client:
            (connection,) = proxy.server._connections()
            sending = asyncio.create_task(client.send(frame(0x81, b"{") * 1_000_000))
            await eventually(lambda: connection.transport.get_write_buffer_size() > 2**18)
            assert connection.transport.get_write_buffer_size() < 2**20
            await eventually(lambda: not proxy.server.open_connections)
            await sending
        assert "websocket_cut" in {event["event"] for event in proxy.log.events}
        assert not proxy.app.bodies.held


@pytest.mark.parametrize("way", ["finish", "reset"])
@pytest.mark.parametrize("when", ["in a frame", "while it waits", "in an answer"])
async def test_a_client_that_goes_in_the_middle_leaves_nothing(way: str, when: str) -> None:
    async with Ollama(tokens=100_000, token_delay=0.001) as sim, running(sim.url) as proxy, raw(proxy) as client:
        if when == "in a frame":
            await client.send(frame(0x01, TEXT) + frame(0x80, TEXT)[:9])
            await eventually(lambda: proxy.app.bodies.held > 0)
        else:
            await client.send(frame(0x81, TEXT) * (2 if when == "while it waits" else 1))
            await client.until(b'"done":false')
        getattr(client, way)()
        await eventually(lambda: not proxy.server.open_connections and not proxy.app.frame.live)
        assert (proxy.app.bodies.held, proxy.app.bodies.callers) == (0, 0)
        if when != "in a frame":
            await sim.wait_for(lambda: sim.counters.cancelled == 1)
            assert len(sim.requests) == 1


async def test_a_hundred_ids_at_once_have_their_answers_and_theirs_only() -> None:
    bounds = {"websocket": {"requests": 10, "waiting": 90}}
    async with Ollama(num_parallel=100, tokens=5) as sim, running(sim.url, server=bounds) as proxy:
        async with websocket(proxy) as socket:
            for number in range(100):
                await say(socket, {**CHAT, "id": number, "options": {"num_predict": 5}})
            frames: dict[int, list[Any]] = {}
            while sum(heard[-1]["done"] for heard in frames.values()) < 100:
                said = await hear(socket)
                frames.setdefault(said["id"], []).append(said["data"])
            assert sorted(frames) == list(range(100))
            assert all(not one["done"] for heard in frames.values() for one in heard[:-1])
            assert sim.counters.max_active <= 10


async def test_ids_that_are_taken_unknown_or_odd_harm_no_other_request() -> None:
    async with Ollama(tokens=100_000, token_delay=0.005) as sim, running(sim.url) as proxy, websocket(proxy) as socket:
        await say(socket, {**CHAT, "id": "a"})
        await hear(socket)
        odd_ones: list[object] = [{}, None, True, 1.5, "", "x" * 129, [1], 10**30]
        for odd in odd_ones:
            await say(socket, {**CHAT, "id": odd})
            await say(socket, {"cancel": odd})
        await say(socket, {**CHAT, "id": "a"})
        for unknown in ("b", 1, -1, "A", 2**63):
            await say(socket, {"cancel": unknown})
        refused = 0
        while refused < 17:
            said = await hear(socket)
            assert said.get("status", 400) == 400, said
            refused += "error" in said
        assert len(proxy.app.frame.live) == 1
        assert "data" in await hear(socket)
        await say(socket, {"cancel": "a"})
        assert (await hear_until(socket, "done"))[-1]["status"] == 499
        await sim.wait_for(lambda: sim.counters.cancelled == 1)


async def test_messages_before_the_first_is_done_are_answered_in_their_order() -> None:
    async with Ollama(num_parallel=4, token_delay=0.002) as sim, running(sim.url) as proxy, websocket(proxy) as socket:
        for number in range(5):
            padding = "x" * (200_000 if number % 2 else 10)  # a long one is read elsewhere, and still in its turn
            await say(socket, {"model": "llama3.2", "prompt": "hi", "messages": [], "keep_alive": number, "x": padding})
        for _ in range(5):
            await hear_until(socket, "done")
        assert [request.json()["keep_alive"] for request in sim.seen("/api/chat")] == list(range(5))
        assert sim.counters.max_active == 1


async def test_a_key_that_was_revoked_ends_with_the_next_message_and_what_waits(tmp_path: Path) -> None:
    key, entry = new_key("ada", now=0.0)
    add_key(tmp_path / "keys.yaml", entry)
    auth = {"auth": {"keys": str(tmp_path / "keys.yaml")}}
    async with Ollama(tokens=100_000, token_delay=0.005, num_parallel=4) as sim:
        async with running(sim.url, middleware=["logging", auth], folder=tmp_path) as proxy:
            async with websocket(proxy, subprotocols=[f"bearer.{key}"]) as socket:
                await say(socket, {**CHAT, "id": "runs"})
                await hear(socket)
                sim.settings.tokens = 3
                revoke_keys(tmp_path / "keys.yaml", "ada")
                async with websocket(proxy, subprotocols=[f"bearer.{key}"]) as other:
                    await eventually_refused(other)
                await say(socket, {**CHAT, "id": "late"})
                while (said := await hear(socket))["id"] != "late":
                    pass
                assert (said["status"], said["code"]) == (401, "invalid_api_key")
        assert key not in "".join(map(str, proxy.log.raw))


async def test_a_reload_leaves_what_runs_and_governs_what_comes(tmp_path: Path) -> None:
    def policy(model: str) -> dict[str, Any]:
        chain = ["logging", {"access": {"models": [model]}}]
        return {"listen": "127.0.0.1:0", "backends": [{"name": "b1", "url": sim.url}], "middleware": chain}

    async with Ollama(num_parallel=2, tokens=TOKENS) as sim:
        held = sim.fault("stall", route="/api/chat", after=TOKENS - 1)
        path = tmp_path / "proxy.yaml"
        async with Process.started(path, policy("llama3.2")) as proxy, websocket(proxy) as socket:
            await say(socket, {**CHAT, "id": "runs"})
            await hear(socket)
            path.write_text(yaml.safe_dump(policy("other")))
            proxy.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(PATIENCE):
                while (await ask(proxy.address, "POST", "/api/show", {"model": "llama3.2"})).status != 403:
                    pass
            await say(socket, {**CHAT, "id": "late"})
            while (said := await hear(socket))["id"] != "late":
                pass
            assert (said["status"], said["code"]) == (403, "model_not_allowed")
            held.release()
            assert (await hear_until(socket, "done"))[-1]["data"]["done"]


async def test_sockets_of_several_workers_share_the_port_and_drain_with_their_codes(tmp_path: Path) -> None:
    with redis_server() as store:
        async with Ollama(num_parallel=20, tokens=TOKENS) as sim:
            held = sim.fault("stall", route="/api/chat", after=TOKENS - 1, times=None)
            policy = {
                "listen": "127.0.0.1:0",
                "backends": [{"name": "b1", "url": sim.url}],
                "middleware": ["logging"],
                "store": store.url,
                "workers": 2,
            }
            async with Process.started(tmp_path / "proxy.yaml", policy) as proxy, AsyncExitStack() as stack:
                sockets = [await stack.enter_async_context(websocket(proxy)) for _ in range(20)]
                for socket in sockets[:10]:
                    await say(socket, {**CHAT, "id": "a"})
                    await hear(socket)
                stopping = asyncio.create_task(proxy.stop())
                assert {(await closed(socket))[0] for socket in sockets[10:]} == {1001}
                held.release()
                for socket in sockets[:10]:
                    assert (await hear_until(socket, "done"))[-1]["data"]["done"]
                    assert (await closed(socket))[0] == 1001
                lines = await stopping
    assert {line["worker"] for line in lines if line["status"] == 101} == {1, 2}
    assert [line["status"] for line in lines].count(200) == 10


@asynccontextmanager
async def torn(proxy: Process, **options: Any) -> AsyncIterator[ClientConnection]:
    """Open a socket whose connection breaks; the client's `close` then aborts a transport that is gone already."""
    with suppress(AttributeError):
        async with websocket(proxy, **options) as socket:
            yield socket


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
async def test_a_message_that_is_too_large_is_told_so_while_it_is_sent(secure: bool, tmp_path: Path) -> None:
    """By the proxy as it is run, with its own event loop."""
    authority = Authority(tmp_path)
    server = authority.issue("localhost", "127.0.0.1")
    async with Ollama() as sim:
        policy: dict[str, Any] = {
            "listen": "127.0.0.1:0",
            "backends": [{"name": "b1", "url": sim.url}],
            "middleware": ["logging"],
            "server": {"body": {"each": "1MiB"}},
        }
        options: dict[str, Any] = {"close_timeout": 10}
        if secure:
            policy["tls"] = {"cert": str(server.cert), "key": str(server.key)}
            options["ssl"] = ssl.create_default_context(cafile=authority.cert)
        async with Process.started(tmp_path / "proxy.yaml", policy) as proxy:
            async with torn(proxy, **options) as socket:
                await say(socket, {**CHAT, "x": "x" * 900_000})
                await hear_until(socket, "done")
                sending = asyncio.create_task(socket.send("x" * (16 << 20)))
                assert (await closed(socket))[0] == 1009
                await asyncio.wait([sending])
                assert isinstance(sending.exception(), ConnectionClosed | None)
            for _ in range(5):  # a long message, and a client that leaves while it is read
                async with torn(proxy, **options) as socket:
                    await say(socket, {**CHAT, "x": "x" * 900_000})
                    socket.transport.abort()
            async with websocket(proxy, **options) as socket:
                await asyncio.gather(*(socket.ping() for _ in range(5000)))
                await say(socket, CHAT)
                await hear_until(socket, "done")
            lines = await proxy.stop()
    assert [line["status"] for line in lines].count(200) >= 2
