"""WebSockets through the whole proxy: messages that are request bodies, and what becomes of the connection."""

import asyncio
import json
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.typing import Subprotocol

from middleware.auth.key_file_editor import add_key, revoke_keys
from middleware.auth.keys import new_key
from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.certificates import Authority
from tests.support.proxy import running
from tests.support.raw import PATIENCE, Raw
from tests.support.websocket import CHAT, HANDSHAKE, QUIET, hear, hear_until, say, websocket
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


async def test_a_message_with_an_id_has_it_on_each_frame() -> None:
    async with Ollama(num_parallel=4, token_delay=0.002) as sim, running(sim.url) as proxy, websocket(proxy) as socket:
        for name in ("a", "b", 3):
            await say(socket, {**CHAT, "id": name})
        frames: list[Any] = []
        while sum(frame["data"]["done"] for frame in frames) < 3:
            frames.append(await hear(socket))
        assert {frame["id"] for frame in frames} == {"a", "b", 3}
        assert all(frame.keys() == {"id", "data"} for frame in frames)
        first_end = next(place for place, frame in enumerate(frames) if frame["data"]["done"])
        assert {frame["id"] for frame in frames[:first_end]} == {"a", "b", 3}  # at the same time
        assert [request.json() for request in sim.seen("/api/chat")] == [CHAT] * 3


async def test_the_end_of_events_is_a_text_in_the_envelope() -> None:
    async with Ollama() as sim, running(sim.url) as proxy, websocket(proxy, "/v1/chat/completions") as socket:
        await say(socket, {**CHAT, "stream": True, "id": "a"})
        frames = await hear_until(socket, "none")
        assert frames[-1] == {"id": "a", "data": "[DONE]"}
        assert frames[0]["data"]["id"].startswith("chatcmpl-")  # the answer's own id is the answer's
        await say(socket, {**CHAT, "id": "b"})  # which is not streamed
        assert (await hear(socket))["data"]["object"] == "chat.completion"


async def test_messages_without_an_id_are_answered_one_after_another() -> None:
    async with Ollama(num_parallel=4) as sim, running(sim.url) as proxy, websocket(proxy) as socket:
        for word in ("one", "two", "three"):
            await say(socket, {**CHAT, "messages": [{"role": "user", "content": word}]})
        for _ in range(3):
            await hear_until(socket, "done")
        said = [request.json()["messages"][0]["content"] for request in sim.seen("/api/chat")]
        assert said == ["one", "two", "three"]
        assert sim.counters.max_active == 1


async def test_a_refused_request_is_an_error_frame_and_the_socket_stays() -> None:
    limit = {"rate_limit": {"requests": "3/hour"}}
    async with Ollama() as sim, running(sim.url, middleware=["logging", limit]) as proxy, websocket(proxy) as socket:
        await socket.send("{")
        assert await hear(socket) == {
            "error": "the request body is not plain JSON: unexpected end of data at byte 1",
            "status": 400,
            "code": "invalid_request",
        }
        await say(socket, [])
        assert (await hear(socket))["status"] == 400
        await say(socket, {**CHAT, "id": {}})
        assert "id" in (await hear(socket))["error"]
        await say(socket, {"model": "unknown", "messages": [], "id": "x"})
        refused = await hear(socket)
        assert (refused["id"], refused["status"], refused["code"]) == ("x", 404, "upstream_error")
        for _ in range(2):
            await say(socket, CHAT)
            await hear_until(socket, "done")
        await say(socket, {**CHAT, "id": 7})
        (limited,) = await hear_until(socket, "done")
        assert (limited["id"], limited["status"], limited["code"]) == (7, 429, "rate_limit_exceeded")
        assert int(limited["headers"]["retry-after"]) > 0
    (opened, *asked) = proxy.log.requests
    assert (opened["status"], opened["method"]) == (101, "GET")
    assert [line["status"] for line in asked] == [404, 200, 200, 429]  # each message is a request in the log
    assert all(line["method"] == "POST" for line in asked)


async def test_errors_have_the_form_of_the_api() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        async with websocket(proxy, "/v1/chat/completions") as socket:
            await socket.send("{")
            assert (await hear(socket))["error"]["type"] == "invalid_request_error"
        async with websocket(proxy, "/v1/messages") as socket:
            await socket.send("{")
            error = await hear(socket)
            assert (error["type"], error["error"]["type"]) == ("error", "invalid_request_error")


async def test_an_answer_that_breaks_off_ends_with_one_error() -> None:
    async with Ollama() as sim, running(sim.url) as proxy, websocket(proxy) as socket:
        sim.fault("truncate", route="/api/chat", after=2)
        await say(socket, CHAT)
        frames = await hear_until(socket, "done")
        assert "error" in frames[-1]
        await say(socket, {**CHAT, "id": "next"})
        assert {frame["id"] for frame in await hear_until(socket, "done")} == {"next"}


async def test_too_many_requests_wait_or_are_refused() -> None:
    bounds = {"websocket": {"requests": 2, "waiting": 1}}
    async with Ollama(num_parallel=4, token_delay=0.01) as sim, running(sim.url, server=bounds) as proxy:
        async with websocket(proxy) as socket:
            for name in "abcd":
                await say(socket, {**CHAT, "id": name})
            await say(socket, {**CHAT, "id": "a"})
            refused: dict[str, Any] = {}
            done: set[str] = set()
            while len(done) < 3:
                frame = await hear(socket)
                if "error" in frame:
                    refused[frame["id"]] = frame
                elif frame["data"]["done"]:
                    done.add(frame["id"])
            assert done == {"a", "b", "c"}
            assert (refused["d"]["status"], refused["d"]["code"]) == (429, "socket_busy")
            assert refused["a"]["status"] == 400
            assert sim.counters.max_active == 2


async def test_cancel_stops_the_generation() -> None:
    async with Ollama(tokens=100_000, token_delay=0.005) as sim, running(sim.url) as proxy, websocket(proxy) as socket:
        await say(socket, {**CHAT, "id": "long"})
        await say(socket, {**CHAT, "id": "unlucky"})
        await hear(socket)
        await say(socket, {"cancel": "nobody"})
        await say(socket, {"cancel": "long"})
        frames = await hear_until(socket, "done")
        ended = next(frame for frame in frames if "error" in frame)
        assert (ended["id"], ended["status"], ended["code"]) == ("long", 499, "cancelled")
        await sim.wait_for(lambda: sim.counters.cancelled == 1)
        sim.settings.tokens = 3
        await say(socket, {"cancel": "unlucky"})
        await say(socket, {**CHAT, "id": "next"})
        while (frame := await hear(socket))["id"] != "next":
            pass
        assert "data" in frame


async def test_a_client_that_leaves_stops_its_generations() -> None:
    async with Ollama(tokens=100_000, token_delay=0.005, num_parallel=2) as sim, running(sim.url) as proxy:
        for leave in ("close", "abort"):
            before = sim.counters.cancelled
            async with websocket(proxy) as socket:
                for name in "ab":
                    await say(socket, {**CHAT, "id": name})
                while len({(await hear(socket))["id"] for _ in range(4)}) < 2:
                    pass
                if leave == "abort":
                    socket.transport.abort()
            await sim.wait_for(lambda before=before: sim.counters.cancelled == before + 2)  # type: ignore[misc]
        await eventually(lambda: not proxy.app.frame.live and not proxy.server.open_connections)
    assert [line["outcome"] for line in proxy.log.requests].count("client_gone") == 4


async def test_fragments_are_put_together_and_pings_come_in_between() -> None:
    async with Ollama() as sim, running(sim.url) as proxy, websocket(proxy) as socket:
        text = json.dumps(CHAT)
        await socket.send([text[:1], text[1:20], "", text[20:]])
        await hear_until(socket, "done")
        assert sim.last.json() == CHAT
        async with asyncio.timeout(PATIENCE):
            await (await socket.ping())


async def closed(socket: Any) -> tuple[int, str]:
    """Wait for the server to close; return the code and the reason."""
    async with asyncio.timeout(PATIENCE):
        with suppress(ConnectionClosedError):
            async for _ in socket:
                pass
        await socket.wait_closed()
    return socket.close_code, socket.close_reason


async def test_what_a_socket_does_not_take_closes_it_with_a_code() -> None:
    small = {"body": {"each": "4KiB", "share": "100%"}}
    async with Ollama() as sim, running(sim.url, server=small) as proxy:
        async with websocket(proxy) as socket:
            await socket.send(b"binary")
            assert (await closed(socket))[0] == 1003
        async with websocket(proxy) as socket:
            await socket.send("x" * 5000)
            assert (await closed(socket))[0] == 1009
        async with websocket(proxy) as socket:  # the fragments of a message count together
            await socket.send(["x" * 3000, "x" * 3000])
            assert (await closed(socket))[0] == 1009
        for frame, code in ((b"\x81\x01x", 1002), (b"\x81\x82\0\0\0\0\xff\xff", 1007), (b"\xc1\x80\0\0\0\0", 1002)):
            async with await Raw.open(proxy.server.addresses[0]) as raw:
                await raw.send(HANDSHAKE % (b"/api/chat", b""))
                assert (await raw.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
                await raw.send(frame)
                head = await raw.exactly(4)
                assert (head[0], int.from_bytes(head[2:4])) == (0x88, code)
        assert not sim.requests


@pytest.mark.parametrize(
    ("path", "fields", "status", "code"),
    [
        (b"/api/chat", b"", 101, None),
        (b"/api/tags", b"", 200, None),
        (b"/api/embed", b"", 405, "method_not_allowed"),
        (b"/nowhere", b"", 404, "not_found"),
        (b"/api/chat", b"Sec-WebSocket-Version: 8\r\n", 426, "upgrade_required"),
        (b"/v1/messages", b"Sec-WebSocket-Key: AAAA\r\n", 400, "invalid_request"),
        (b"/api/chat", b"Content-Length: 2\r\n", 400, "invalid_request"),
        (b"/api/chat", b"Origin: https://elsewhere.example\r\n", 403, "cross_origin"),
        (b"/api/chat", b"Sec-Fetch-Site: cross-site\r\n", 403, "cross_origin"),
        (b"/api/chat", b"Origin: http://localhost\r\n", 101, None),
    ],
)
async def test_a_handshake_that_is_refused_gets_an_answer_of_http(
    path: bytes, fields: bytes, status: int, code: str | None
) -> None:
    async with Ollama() as sim, running(sim.url) as proxy, await Raw.open(proxy.server.addresses[0]) as raw:
        await raw.send(HANDSHAKE % (path, fields) + b"{}" * (b"Length" in fields))
        head = await raw.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status), head
        assert (f"x-error-code: {code}".encode() in head) is (code is not None)
        assert (b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head) is (status == 101)


async def test_a_plain_get_is_answered_as_ollama_does() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        reply = await ask(proxy.address, "GET", "/v1/chat/completions")
        assert (reply.status, reply.headers["allow"], reply.body) == (405, "POST", b"405 method not allowed")
    off = {"websocket": {"enabled": False}}
    async with Ollama() as sim, running(sim.url, server=off) as proxy, await Raw.open(proxy.server.addresses[0]) as raw:
        await raw.send(HANDSHAKE % (b"/api/chat", b""))
        assert (await raw.response()).status == 405


async def test_credentials_come_in_the_header_the_subprotocol_or_the_path(tmp_path: Path) -> None:
    key, entry = new_key("ada", now=0.0)
    add_key(tmp_path / "keys.yaml", entry)
    auth = {"auth": {"keys": str(tmp_path / "keys.yaml"), "path_token": True}}
    async with Ollama() as sim, running(sim.url, middleware=["logging", auth], folder=tmp_path) as proxy:
        ways: list[tuple[str, dict[str, Any]]] = [
            ("/api/chat", {"additional_headers": {"Authorization": f"Bearer {key}"}}),
            ("/api/chat", {"subprotocols": [Subprotocol(f"bearer.{key}")]}),
            ("/api/chat", {"subprotocols": [Subprotocol("chat"), Subprotocol(f"bearer.{key}")]}),
            (f"/k/{key}/api/chat", {}),
        ]
        for path, options in ways:
            async with websocket(proxy, path, **options) as socket:
                offered = options.get("subprotocols", [None])
                assert socket.subprotocol == offered[0]
                await say(socket, CHAT)
                await hear_until(socket, "done")
        wrong: list[dict[str, Any]] = [{}, {"subprotocols": [Subprotocol("bearer.op_wrong")]}]
        for options in wrong:
            with pytest.raises(InvalidStatus) as refused:
                async with websocket(proxy, **options):
                    pass
            assert refused.value.response.status_code == 401
        async with websocket(proxy, additional_headers={"Authorization": f"Bearer {key}"}) as socket:
            revoke_keys(tmp_path / "keys.yaml", "ada")
            await eventually_refused(socket)
        names = {name.lower() for request in sim.requests for name, _ in request.headers}
        assert not {name for name in names if name.startswith(b"sec-websocket")}
    lines = proxy.log.requests
    assert {line["identity"] for line in lines if line["status"] == 200} == {"ada"}
    assert not [raw for raw in proxy.log.raw if key.encode() in raw]


async def eventually_refused(socket: Any) -> None:
    """Ask until the key, which is gone from its file, is refused: each message is checked anew."""
    async with asyncio.timeout(PATIENCE):
        while True:
            await say(socket, CHAT)
            frames = await hear_until(socket, "done")
            if "error" in frames[-1]:
                assert (frames[-1]["status"], frames[-1]["code"]) == (401, "invalid_api_key")
                return


async def test_a_name_that_is_not_the_proxys_is_refused() -> None:
    """A page can make its own name lead to the proxy (DNS rebinding)."""
    async with Ollama() as sim, running(sim.url) as proxy, await Raw.open(proxy.server.addresses[0]) as raw:
        await raw.send((HANDSHAKE % (b"/api/chat", b"")).replace(b"localhost", b"evil.example"))
        assert b"x-error-code: unknown_host" in await raw.until(b"\r\n\r\n")


async def test_draining_closes_when_the_answers_are_out() -> None:
    async with Ollama(token_delay=0.005, tokens=40, num_parallel=2) as sim, running(sim.url) as proxy:
        async with websocket(proxy) as socket, websocket(proxy) as idle:
            await say(socket, {**CHAT, "id": "a"})
            await hear(socket)
            draining = asyncio.create_task(proxy.server.drain(PATIENCE))
            assert (await closed(idle))[0] == 1001
            await say(socket, {**CHAT, "id": "late"})
            frames: list[Any] = []
            while not frames or not frames[-1].get("data", {}).get("done"):
                frames.append(await hear(socket))
            refused = [frame for frame in frames if "error" in frame]
            assert [(frame["id"], frame["status"], frame["code"]) for frame in refused] == [("late", 503, "shutdown")]
            assert (await closed(socket))[0] == 1001
            assert await draining == 0


async def test_what_is_not_over_in_time_is_cut_with_its_error() -> None:
    async with Ollama(token_delay=0.005, tokens=100_000) as sim, running(sim.url) as proxy, websocket(proxy) as socket:
        await say(socket, {**CHAT, "id": "a"})
        await hear(socket)
        cut = asyncio.create_task(proxy.server.drain(0))
        frames: list[Any] = []
        while not frames or "error" not in json.dumps(frames[-1]):
            frames.append(await hear(socket))
        assert "shutting down" in json.dumps(frames[-1])
        assert (await closed(socket))[0] == 1012
        assert await cut == 1
        await sim.wait_for(lambda: sim.counters.cancelled == 1)


async def test_times_of_a_socket() -> None:
    short = {"ping": "100ms", "pong": "100ms"}
    async with Ollama() as sim:
        async with running(sim.url, server={"websocket": {"idle": "100ms"}}) as proxy, websocket(proxy) as socket:
            assert await closed(socket) == (1000, "nothing happened for a while (timer idle)")
        async with running(sim.url, server={"websocket": {"total": "100ms"}}) as proxy, websocket(proxy) as socket:
            assert (await closed(socket))[0] == 1001
        async with running(sim.url, server={"websocket": short}) as proxy:
            async with await Raw.open(proxy.server.addresses[0]) as raw:
                await raw.send(HANDSHAKE % (b"/api/chat", b""))
                await raw.until(b"\r\n\r\n")
                assert await raw.rest() == b"\x89\x00"  # a ping that nobody answers, and the end
        half = {"body": {"timeout": "100ms"}}
        async with running(sim.url, server=half) as proxy, await Raw.open(proxy.server.addresses[0]) as raw:
            await raw.send(HANDSHAKE % (b"/api/chat", b""))
            await raw.until(b"\r\n\r\n")
            await raw.send(b"\x81\xfe")
            head = await raw.exactly(4)
            assert int.from_bytes(head[2:4]) == 1008


async def test_a_slow_reader_is_cut_and_harms_nobody() -> None:
    """It stops its own backend; another socket goes on meanwhile."""
    fast: dict[str, Any] = {"tokens": 100_000, "num_parallel": 4}
    async with Ollama(**fast) as sim, running(sim.url, server={"write": "300ms"}) as proxy:
        async with await Raw.open(proxy.server.addresses[0], receive_buffer=4096) as slow:
            await slow.send(HANDSHAKE % (b"/api/chat", b""))
            await slow.until(b"\r\n\r\n")
            body = json.dumps(CHAT).encode()
            await slow.send(b"\x81" + bytes([0x80 | len(body)]) + b"\0\0\0\0" + body)
            await sim.wait_for(lambda: sim.counters.active == 1)
            async with websocket(proxy) as socket:
                await say(socket, {**CHAT, "options": {"num_predict": 20}})
                assert len(await hear_until(socket, "done")) > 10
            await sim.wait_for(lambda: sim.counters.cancelled == 1)
        assert "websocket_cut" in {event["event"] for event in proxy.log.events}


async def test_a_thousand_that_were_opened_and_left_leave_nothing() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        gate = asyncio.Semaphore(50)

        async def visit(number: int) -> None:
            async with gate, websocket(proxy, "/v1/responses" if number % 2 else "/api/chat") as socket:
                if number % 10 == 0:
                    await say(socket, CHAT)
                    await hear_until(socket, "done")
                if number % 3 == 0:
                    socket.transport.abort()

        await asyncio.gather(*(visit(number) for number in range(1000)))
        await eventually(lambda: not proxy.server.open_connections and not proxy.server._connections())
        assert not proxy.app.frame.live
        assert (proxy.app.bodies.held, proxy.app.bodies.callers) == (0, 0)


async def test_it_is_spoken_through_tls_too(tmp_path: Path) -> None:
    """The certificate of a client, which the proxy verified, counts for each message."""
    authority = Authority(tmp_path)
    server, robot = authority.issue("localhost", "127.0.0.1"), authority.issue("ci.example.com")
    chain = ["logging", {"auth": {"mtls": {"policy": "dns", "policies": {"ci.example.com": "robots"}}}}]
    tls = {"cert": server.cert, "key": server.key, "client_ca": authority.cert}
    async with Ollama() as sim, running(sim.url, middleware=chain, tls=tls, policies={"robots": {}}) as proxy:
        context = ssl.create_default_context(cafile=authority.cert)
        context.load_cert_chain(robot.cert, robot.key)
        address = f"wss://127.0.0.1:{proxy.address[1]}/api/chat"
        async with connect(address, ssl=context, proxy=None, logger=QUIET) as socket:
            await say(socket, CHAT)
            assert texts(await hear_until(socket, "done"))
            draining = asyncio.create_task(proxy.server.drain(PATIENCE))
            assert (await closed(socket))[0] == 1001
            await draining
    assert [(line["status"], line["policy"]) for line in proxy.log.requests] == [(101, "robots"), (200, "robots")]
