"""What must happen to bad input, sick backends and clients that leave, through the whole proxy.

The rest of the catalogue is proved closer to the code: framing in test_framing.py and
proxy/server/test_guarded_protocol.py, endings in test_endings.py, retries in test_backends.py, disconnects in
test_disconnects.py, the transport in test_transport_faults.py, spellings in proxy/kernel/test_routes.py, bodies and
models in test_access.py, bombs and an unread stdout in test_process.py.
"""

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from proxy.kernel.asgi import header, header_values
from proxy.simulator import Ollama
from proxy.upstream.transport import Transport
from tests.live.test_framing import REFUSED
from tests.support.backend import Peer, Script, backend, black_hole, eventually, once, reply
from tests.support.proxy import Running, running
from tests.support.raw import Raw
from tests.support.wire import Client, Reply, ask, request

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
UPLOAD = b"POST /api/blobs/sha256:%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n" % (b"0" * 64)

# Framing and target


@pytest.mark.parametrize("name", REFUSED)
async def test_bad_framing_leaves_the_backend_untouched(name: str) -> None:
    """Also where the request would be one for it, and another one stands behind."""
    _, data = REFUSED[name]
    data = data.replace(b"POST / ", b"POST /api/show ").replace(b"GET / ", b"GET /api/tags ")
    async with Ollama() as sim, running(sim.url) as proxy:
        async with await Raw.open(proxy.server.addresses[0]) as client:
            await client.send(data + request("GET", "/api/ps"))
            assert (await client.response()).status in (400, 405)
            assert await client.rest() == b""
        assert not sim.requests


SPELLINGS = [
    "/api/pull",
    "//api/pull",
    "/api//pull",
    "/api/./pull",
    "/api/x/../pull",
    "/api/%70ull",
    "/%61pi/pull",
    "/api%2fpull",
    "/api/%2570ull",
    "/api/pull/",
    "/api/pull%2f",
    "/API/pull",
    "/api/Pull",
    "/api/pull;x",
    "/api/pull%3bx",
    "/api/pull%3fx",
    "/api/pull%00",
    "/api\\pull",
    "/api%5cpull",
    "/api/pull?x=1",
    "/k/../api/pull",
    "/-/backends/b1/api/pull",
    "/-/backends/b1//api/pull",
    "/v1/models/..%2f..%2fapi%2fpull",
]
DISGUISES = ["X-Original-URL", "X-Original-URI", "X-Rewrite-URL", "X-Forwarded-Path", "X-Forwarded-Prefix"]


@pytest.mark.parametrize("path", SPELLINGS)
async def test_no_spelling_pulls_for_who_may_not(path: str) -> None:
    async with Ollama() as sim, running(sim.url, middleware=[{"access": {"routes": ["read", "inference"]}}]) as proxy:
        answer = await ask(proxy.address, "POST", path, {"model": "phi4"})
        assert answer.status in (307, 400, 403, 404)
        assert not sim.requests


async def test_no_header_changes_what_a_request_is() -> None:
    disguise = dict.fromkeys(DISGUISES, "/api/delete") | {"X-HTTP-Method-Override": "DELETE", "X-HTTP-Method": "DELETE"}
    async with Ollama() as sim, running(sim.url, middleware=[{"access": {"routes": ["read", "inference"]}}]) as proxy:
        assert (await ask(proxy.address, "POST", "/api/show", {"model": "llama3.2"}, disguise)).status == 200
        assert (sim.last.method, sim.last.target) == ("POST", b"/api/show")
        assert all(header(sim.last.headers, name.lower().encode()) is None for name in disguise)


async def test_headers_cross_in_both_directions_as_they_must() -> None:
    answer = reply(
        b"{}",
        b"Connection: X-Hop, close",
        b"X-Hop: 1",
        b"Keep-Alive: timeout=5",
        b"X-Request-ID: theirs",
        b"Set-Cookie: a=1",
        b"Set-Cookie: b=2",
    )
    sent = {
        "Connection": "X-Hop, X-Gateway-Token, Host",
        "X-Hop": "1",
        "X-Gateway-Token": "theirs",
        "X_Gateway_Token": "theirs",
        "X_Forwarded_For": "6.6.6.6",
        "Authorization": "Bearer theirs",
        "Cookie": "a=1",
        "Via": "1.1 edge",
    }
    own = {"X-Gateway-Token": "ours", "Authorization": "Bearer ours"}
    async with Ollama() as sim, running({"name": "b1", "url": sim.url, "headers": own}) as proxy:
        sim.script(answer)
        got = await ask(proxy.address, "GET", "/api/version", headers=sent)
        seen = sim.last.headers
        assert header_values(seen, b"x-gateway-token") == [b"ours"]
        assert header_values(seen, b"authorization") == [b"Bearer ours"]
        assert header_values(seen, b"host") == [sim.url.removeprefix("http://").encode()]
        assert header(seen, b"via") == b"1.1 edge, " + header_values(seen, b"via")[0].split(b", ")[1]
        assert not {b"x-hop", b"x_gateway_token", b"x_forwarded_for", b"cookie", b"connection"} & dict(seen).keys()
        line = await proxy.log.request()
        assert got.headers["x-request-id"] == line["request_id"]
        assert not {"x-hop", "keep-alive"} & got.headers.keys()


async def test_a_request_that_comes_back_to_us_is_a_loop() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    async with running(f"http://{address}", listen=address) as proxy:
        answer = await ask(proxy.address, "POST", "/api/show", {"model": "llama3.2"})
        assert answer.status == 508
        assert len(proxy.log.requests) == 2


# Backends

NDJSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
SSE = NDJSON.replace(b"application/x-ndjson", b"text/event-stream")
TOKEN = b'{"response":"a","done":false}\n'
DONE = b'{"response":"","done":true,"prompt_eval_count":1,"eval_count":1}\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def dies_behind(*chunks: bytes, reset: bool) -> Script:
    """Send one chunk at a time, the next when the one before was read; then die without the last chunk."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(NDJSON)
        for part in chunks:
            await peer.send(chunk(part))
            await asyncio.sleep(0.02)  # so that it is a read of its own on the other side
        if reset:
            peer.reset()

    return script


@pytest.mark.parametrize("reset", [False, True])
async def test_a_death_behind_the_terminator_takes_nothing_away_and_adds_nothing(reset: bool) -> None:
    async with backend(dies_behind(TOKEN, DONE, reset=reset)) as dying, running(dying.url) as proxy:
        answer = await ask(proxy.address, "POST", "/api/generate", CHAT)
        assert answer.chunks == [TOKEN, DONE]
        assert answer.clean
        line = await proxy.log.request()
        assert (line["outcome"], line["tokens_out"], line["chunks"]) == ("completed", 1, 2)


async def test_a_terminator_does_not_excuse_a_body_that_is_too_short() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n" % (len(DONE) + 9)
    async with backend(once(head, DONE[:30], DONE[30:])) as short, running(short.url, pool=IMPATIENT) as proxy:
        answer = await ask(proxy.address, "POST", "/api/generate", CHAT)
        assert not answer.clean
        assert (await proxy.log.request())["outcome"] == "upstream_truncated"


IMPATIENT = {
    "timeouts": {
        "connect": "150ms",
        "first_byte": "150ms",
        "load": "150ms",
        "idle": "150ms",
        "manage": "150ms",
        "write": "150ms",
    }
}


@asynccontextmanager
async def deaf() -> AsyncIterator[str]:
    """A backend that reads no body."""
    done = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await done.wait()

    async with backend(script, limit=2**14) as running_backend:
        yield running_backend.url
        done.set()


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    async with Ollama() as sim:
        sim.fault("stall", times=None)
        yield sim.url
        sim.clear()


@pytest.mark.parametrize(
    ("where", "data", "code"),
    [
        (black_hole, request("POST", "/api/pull", CHAT), "connect_timeout"),
        (silent, request("POST", "/api/pull", CHAT), "manage_timeout"),
        (silent, request("POST", "/api/generate", CHAT), "load_timeout"),
        (deaf, UPLOAD + b"x" * 30_000_000, "write_timeout"),
    ],
    ids=["connect", "manage", "load", "write"],
)
async def test_every_timer_names_itself(where: Any, data: bytes, code: str) -> None:
    async with where() as url, running(url, middleware=["logging"], pool=IMPATIENT) as proxy:
        client = await Client.connect(proxy.address)
        client.writer.write(data)
        answer = await client.read()
        assert answer.status == 504
        assert "s" in orjson.loads(answer.body)["error"]
        line = await proxy.log.request()
        assert (line["outcome"], line["error_code"]) == ("timed_out", code)
        client.hang_up()


@pytest.mark.parametrize(
    ("answer", "status", "outcome"),
    [
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, "completed"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, "completed"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + reply(b"{}"), 200, "completed"),
        (reply(b"x" * 70_000, status=b"500 x"), 502, "upstream_failed"),
        (reply(b"x" * 60_000, status=b"500 x"), 500, "upstream_failed"),
        (reply(b"", b"Location: /elsewhere", status=b"307 x"), 307, "completed"),
        (reply(b"x", status=b"99 x"), 502, "upstream_failed"),
        (b"\x16\x03\x01junk", 502, "upstream_failed"),
    ],
)
async def test_odd_answers_are_relayed_or_refused_and_the_client_may_go_on(
    answer: bytes, status: int, outcome: str
) -> None:
    async with Ollama() as sim, running(sim.url, middleware=["logging"]) as proxy:
        client = await Client.connect(proxy.address)
        sim.script(answer)
        for number, expected in enumerate((status, 200), start=1):
            await client.send(request("GET", "/api/version"))
            got = await client.read_head()
            if got.status not in (204, 304):
                await client.reader.readexactly(int(got.headers["content-length"]))
            assert got.status == expected
            assert (await proxy.log.request(number))["outcome"] == (outcome if number == 1 else "completed")
        assert len(sim.requests) == 2
        client.hang_up()


# Clients


async def test_a_request_behind_a_stream_does_not_hide_that_its_client_leaves() -> None:
    async with Ollama(token_delay=0.01, tokens=100_000) as sim, running(sim.url) as proxy:
        client = await Client.connect(proxy.address)
        await client.send(request("POST", "/api/chat", CHAT) + request("POST", "/api/pull", CHAT))
        await client.read_head()
        client.hang_up(reset=True)
        assert (await proxy.log.request())["outcome"] == "client_gone"
        await sim.wait_for(lambda: sim.counters.active == 0)
        assert not sim.seen("/api/pull")


async def test_a_client_that_leaves_an_upload_that_nobody_takes_is_heard() -> None:
    async with deaf() as url, running(url) as proxy:
        client = await Client.connect(proxy.address)
        client.writer.write(UPLOAD + b"x" * 30_000_000)
        transport = proxy.app.pool.backends[0].transport
        assert isinstance(transport, Transport)
        connections = transport._connections
        await eventually(lambda: any(connection._blocked for connection in connections))
        client.hang_up(reset=True)
        assert (await proxy.log.request())["outcome"] == "client_gone"
        assert transport.open == 0


async def test_a_thousand_announced_bodies_take_up_nothing() -> None:
    bounds = {"body": {"each": "20MB", "total": "100MB"}}
    head = request("POST", "/api/generate", headers={"Content-Length": "20000000"})
    async with Ollama() as sim, running(sim.url, server=bounds) as proxy:
        clients = [await Client.connect(proxy.address) for _ in range(1000)]
        for client in clients:
            await client.send(head + b"{")
        await eventually(lambda: proxy.app.bodies.held == 1000)
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).status == 200
        for client in clients:
            client.hang_up()
        await proxy.log.request(1001)
        assert proxy.app.bodies.held == 0


async def test_bodies_are_bounded_in_sum_before_more_of_them_are_read() -> None:
    bounds = {"body": {"each": "5MB", "total": "20MB"}}
    head = request("POST", "/api/generate", headers={"Content-Length": "5000000"})
    async with Ollama() as sim, running(sim.url, server=bounds) as proxy:
        client = await Client.connect(proxy.address)
        await client.send(head + b" " * 4_999_999)
        await eventually(lambda: proxy.app.bodies.held == 4_999_999)
        for _ in range(10):
            other = await Client.connect(proxy.address)
            await other.send(head)
            answer = await other.read_head()
            assert (answer.status, answer.headers["retry-after"]) == (429, "1")
            other.hang_up()
        refused = [line for line in proxy.log.requests if line["error_code"] == "body_share_exceeded"]
        assert len(refused) == 10
        client.hang_up()
        await proxy.log.request(11)
        assert proxy.app.bodies.held == 0
        assert not sim.requests


async def test_bodies_of_no_announced_length_are_bounded_in_sum_while_they_come() -> None:
    """A hundred clients that really send: never more is held than may be, and who fits is served."""
    bounds = {"body": {"each": "1MB", "total": "4MB"}}
    prompt = orjson.dumps({"model": "llama3.2", "prompt": "x" * 900_000, "options": {"num_predict": 1}})
    body = b"".join(chunk(prompt[at : at + 50_000]) for at in range(0, len(prompt), 50_000)) + chunk(b"")
    head = request("POST", "/api/generate", headers={"Transfer-Encoding": "chunked"})
    async with Ollama(num_parallel=100) as sim, running(sim.url, server=bounds) as proxy:
        held = 0

        async def one() -> int:
            nonlocal held
            async with await Raw.open(proxy.server.addresses[0]) as client:
                sending = asyncio.create_task(client.send(head + body))
                status = (await client.response()).status
                held = max(held, proxy.app.bodies.held)
                await sending
                return status

        statuses = await asyncio.gather(*(one() for _ in range(100)))
        assert {*statuses} == {200, 429}
        assert held <= 1_000_000  # all of one caller
        assert statuses.count(200) == len(sim.requests)
        await proxy.log.request(100)
        assert proxy.app.bodies.held == 0


async def test_a_body_that_trickles_in_keeps_nobody_out() -> None:
    """It announces all the memory there is, and then sends next to nothing."""
    bounds = {"body": {"each": "50MB", "total": "50MB", "timeout": "100ms", "rate": "1MB"}}
    head = request("POST", "/api/generate", headers={"Content-Length": "50000000"})
    async with Ollama() as sim, running(sim.url, server=bounds) as proxy:
        client = await Client.connect(proxy.address)
        await client.send(head)
        trickle = asyncio.create_task(trickled(client, b"{" * 1000))
        await eventually(lambda: proxy.app.bodies.held > 0)
        assert (await ask(proxy.address, "POST", "/api/show", CHAT)).status == 200
        answer = await client.read()
        told = "the request body is 0.1 s behind 1000000 bytes a second; send faster (timer body)"
        assert (answer.status, orjson.loads(answer.body)["error"]) == (408, told)
        trickle.cancel()
        line = await proxy.log.request(2)
        assert (line["outcome"], line["error_code"]) == ("refused", "body_too_slow")
        client.hang_up()


async def test_a_blob_that_trickles_in_holds_nothing_and_may_take_its_time() -> None:
    bounds = {"body": {"timeout": "100ms", "rate": "1MB"}}
    content = b"slow" * 5
    path = f"/api/blobs/sha256:{hashlib.sha256(content).hexdigest()}"
    async with Ollama() as sim, running(sim.url, server=bounds) as proxy:
        client = await Client.connect(proxy.address)
        await client.send(request("POST", path, headers={"Content-Length": str(len(content))}))
        await trickled(client, content)
        assert (await client.read()).status == 201
        assert proxy.app.bodies.held == 0
        client.hang_up()


async def trickled(client: Client, data: bytes) -> None:
    for at in range(len(data)):
        await client.send(data[at : at + 1])
        await asyncio.sleep(0.02)


async def test_where_nobody_is_asked_who_he_is_no_body_takes_up_memory() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        client = await Client.connect(proxy.address)
        await client.send(request("GET", "/", headers={"Content-Length": "50000000"}) + b"x")
        assert (await client.read()).body == b"Ollama is running"
        assert proxy.app.bodies.held == 0
        assert header(sim.last.headers, b"content-length") is None
        client.hang_up()


async def test_a_thousand_readers_that_stop_are_bounded_let_go_and_noticed_by_nobody() -> None:
    """The backend is held up where the client is, however much it has to say."""
    stalled = 1000
    record = chunk(b'{"response":"' + b"x" * 10_000 + b'","done":false}\n')

    async def script(peer: Peer) -> None:
        while True:
            fast = b"fast" in await peer.request()
            await peer.send(NDJSON)
            for _ in range(20 if fast else 1_000_000):
                peer.writer.write(record)
                await peer.writer.drain()
            await peer.send(chunk(DONE), b"0\r\n\r\n")

    async with backend(script, limit=2**16) as talker, running(talker.url, server={"write": "1s"}) as proxy:
        # What the kernel takes for each is not the proxy's to bound, and by default gigabytes in all.
        (listener,) = proxy.server._acceptor._listeners
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        readers = [await stopped_reader(proxy.address) for _ in range(stalled)]
        others = 0
        while len(proxy.log.requests) < stalled + others:
            answer = await ask(proxy.address, "POST", "/api/generate", {"model": "fast"})
            assert answer.clean
            assert len(answer.chunks) == 21
            others += 1
        left = [line for line in proxy.log.requests if line["outcome"] != "completed"]
        assert len(left) == stalled
        assert {(line["outcome"], line["error_code"]) for line in left} == {("client_gone", "write_timeout")}
        assert max(line["bytes_out"] for line in left) < 2**20
        assert proxy.app.pool.backends[0].active == 0
        for sock in readers:
            sock.close()


async def stopped_reader(address: tuple[str, int]) -> socket.socket:
    """Ask for a stream without end and read nothing of it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, address)
    await asyncio.get_running_loop().sock_sendall(sock, request("POST", "/api/generate", CHAT))
    return sock


# Load and life


async def drained(proxy: Running, path: str, body: dict[str, Any]) -> Reply:
    """Begin a stream, stop the server, and return what of the stream came."""
    client = await Client.connect(proxy.address)
    await client.send(request("POST", path, body))
    answer = await client.read_head()
    answer.chunks.append(await client.read_chunk())
    stopping = asyncio.create_task(proxy.server.drain(0.05))
    try:
        while part := await client.read_chunk():
            answer.chunks.append(part)
        answer.clean = True
    except asyncio.IncompleteReadError:
        pass
    assert await stopping == 1
    client.hang_up()
    return answer


@pytest.mark.parametrize(
    ("path", "start"),
    [
        ("/api/chat", b'{"error":"the proxy is shutting down'),
        ("/v1/chat/completions", b'data: {"error":{"message":"the proxy is shutting down'),
        ("/v1/messages", b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"'),
    ],
)
async def test_a_stream_that_outlives_the_shutdown_ends_honestly(path: str, start: bytes) -> None:
    async with Ollama(token_delay=0.01, tokens=100_000) as sim, running(sim.url) as proxy:
        answer = await drained(proxy, path, {**CHAT, "stream": True, "max_tokens": 100_000})
        assert not answer.clean
        assert answer.chunks[-1].startswith(start)
        line = await proxy.log.request()
        assert (line["outcome"], line["error_code"]) == ("shutdown", "shutdown")
        await sim.wait_for(lambda: sim.counters.active == 0)


async def test_no_secret_is_logged_or_told() -> None:
    """Canaries in headers, URL, body and configuration, in requests that succeed and that fail in every way."""
    canary = "canary0123456789abcdef0123456789abcdef"
    own = {"name": "b1", "headers": {"Authorization": f"Bearer {canary}", "X-Team": canary}}
    said: list[bytes] = []
    async with Ollama() as sim, running({**own, "url": sim.url}) as proxy:
        headers = {"Authorization": f"Bearer {canary}", "x-api-key": canary, "Cookie": canary, "X-Odd": canary}
        for path in ("/api/show", f"/api/{canary}", f"/k/{canary}/api/show", f"/api/show?key={canary}", "/api/chat"):
            for body in ({"model": "llama3.2", "prompt": canary}, {"model": "nope", "system": canary}):
                answer = await ask(proxy.address, "POST", path, body, headers)
                said += [answer.body, repr(answer.headers).encode()]
        sim.fault("reset", times=None)
        said.append((await ask(proxy.address, "POST", "/api/show", CHAT, headers)).body)
        said.append(b"".join(proxy.log.raw) + repr(proxy.app.pool).encode() + repr(proxy.app.settings).encode())
    assert len(proxy.log.requests) == 11
    assert not [text for text in said if canary.encode() in text]
