"""What the pages about nginx, Caddy and Traefik promise, with their own configuration around the real programs."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import orjson
import pytest
import yaml

from config.settings import Server
from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.app import check
from proxy.simulator import Ollama
from tests.conftest import Need
from tests.support.backend import Peer, backend, chunked, reply
from tests.support.fronts import KINDS, NAME, Front, block, in_front, installed
from tests.support.policy import load_text
from tests.support.process import free_port, start_process
from tests.support.proxy import Running, running
from tests.support.wire import Client, ask

CHAT: Final[dict[str, Any]] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": True}
STREAMS: Final = ("/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/responses")
LONG: Final = {**CHAT, "prompt": "hi", "input": "hi", "max_tokens": 12}
WEBSOCKET: Final = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
THERE: Final = "127.0.0.2"
"""An address of a client, other than that of the front."""
SPOOFED: Final = "203.0.113.9"


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest, need: Need) -> str:
    """Return the name of a front, each in its turn."""
    found: str = request.param
    need(found, installed(found))
    return found


@pytest.fixture
def _curl(need: Need) -> None:
    need("curl", shutil.which("curl") is not None)


class Serve(Protocol):
    """Runs a proxy before the backend at a URL, and the front before it; options are settings of the proxy."""

    def __call__(self, url: str, **settings: Any) -> AbstractAsyncContextManager[tuple[Front, Running]]: ...


@pytest.fixture
def serve(kind: str, tmp_path: Path) -> Serve:
    return partial(fronted, kind, tmp_path)


@asynccontextmanager
async def fronted(kind: str, files: Path, url: str, **more: Any) -> AsyncIterator[tuple[Front, Running]]:
    """Run a proxy with the policy file of the page, and the front before it."""
    policy = yaml.safe_load(block(kind, "yaml"))
    settings = {key: policy[key] for key in ("trusted_proxies", "server")}
    async with running(url, **{**settings, **more}) as proxy:
        async with in_front(kind, proxy.server.addresses[0], files) as front:
            await proxy.log.request()  # the one by which the front was found ready
            proxy.log.raw.clear()
            yield front, proxy


def keyed(folder: Path, policy: str | None = None) -> str:
    """Write a key file; return its key."""
    key, entry = new_key("alice", now=0.0, policy=policy)
    add_key(folder / "keys.yaml", entry)
    return key


async def begin(front: Front, path: str = "/api/chat", **headers: str) -> Client:
    client = await front.connect()
    await client.send(front.request("POST", path, LONG, headers))
    return client


def curl(front: Front, version: str, *options: str) -> Awaitable[asyncio.subprocess.Process]:
    """Start a chat with curl, over ``1.1`` or ``2``; it writes the tokens as they come, and the version behind them."""
    address = ("--cacert", front.authority, "--resolve", f"{front.host}:127.0.0.1")
    return start_process(
        *("curl", "-sSN", "--max-time", "20", f"--http{version}", *address, "-w", "%{http_version}", *options),
        *("-d", json.dumps(CHAT), f"https://{front.host}/api/chat"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_policy_files_of_the_page_are_right(kind: str) -> None:
    for number in range(1 if kind == "traefik" else 2):
        text = block(kind, "yaml", number) + 'backends: [{name: gpu-1, url: "http://127.0.0.1:11434"}]\n'
        check(load_text(text + "middleware: [{auth: {anonymous: guests}}]\npolicies: {guests: {}}\n"))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_it_closes_idle_connections_before_the_proxy_does(kind: str) -> None:
    """Else a request could meet a connection that is being closed, and nothing of it is sent again."""
    text = block(kind, {"nginx": "nginx", "caddy": "caddyfile", "traefik": "yaml"}[kind], 2 if kind == "traefik" else 0)
    (idle,) = re.findall(r"(?:keepalive|keepalive_timeout|idleConnTimeout:) (\d+)s", text)
    assert int(idle) < Server().keep_alive


# Streams


@pytest.mark.parametrize("path", STREAMS)
async def test_tokens_come_before_the_next_one_is_made(serve: Serve, path: str) -> None:
    async with Ollama() as sim, serve(sim.url) as (front, proxy):
        fault = sim.fault("stall", route=path, after=2)
        client = await begin(front, path, **{"Accept-Encoding": "gzip, br, zstd"})
        head = await client.read_head()
        assert (head.status, head.headers.get("content-encoding")) == (200, None)
        got = b""
        while len(re.findall(rb"\n+", got)) < 2:
            got += await client.read_chunk()
        assert fault.hits == 1
        fault.release()
        while chunk := await client.read_chunk():
            got += chunk
        line = await proxy.log.request()
        assert (line["outcome"], line["bytes_out"]) == ("completed", len(got))
        await client.close()


@pytest.mark.usefixtures("_curl")
async def test_they_do_so_over_http_2(serve: Serve) -> None:
    async with Ollama() as sim, serve(sim.url) as (front, _):
        fault = sim.fault("stall", route="/api/chat", after=2)
        client = await curl(front, "2")
        assert client.stdout is not None
        for _ in range(2):
            assert orjson.loads(await client.stdout.readline())["done"] is False
        fault.release()
        rest, said = await client.communicate()
        *_, last, version = rest.splitlines()
        assert (client.returncode, version, orjson.loads(last)["done"]) == (0, b"2", True), said


@pytest.mark.parametrize(
    ("path", "how"),
    [*((path, "reset") for path in STREAMS), *(("/api/chat", how) for how in ("close", "truncate", "stall"))],
)
async def test_a_cut_stream_is_no_success(serve: Serve, path: str, how: Any) -> None:
    async with Ollama() as sim, serve(sim.url, pool={"timeouts": {"idle": "500ms"}}) as (front, proxy):
        sim.fault(how, route=path, after=4)
        client = await begin(front, path)
        answer = await client.read()
        assert (answer.status, answer.clean) == (200, False)
        assert len(re.findall(rb"\n+(?!data)", answer.body)) == 5
        assert b'"error"' in answer.body.rstrip(b"\n").rpartition(b"\n")[2]
        assert (await proxy.log.request())["outcome"] == "upstream_truncated"
        await client.close()


@pytest.mark.usefixtures("_curl")
@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_curl_fails_on_a_cut_stream(serve: Serve, version: str) -> None:
    async with Ollama() as sim, serve(sim.url) as (front, _):
        sim.fault("reset", route="/api/chat", after=4)
        client = await curl(front, version)
        tokens, said = await client.communicate()
        assert client.returncode == {"1.1": 18, "2": 92}[version], said
        assert tokens.endswith(version.encode())
        assert len(tokens.splitlines()) == 6
        assert "INTERNAL_ERROR" in said.decode() or version == "1.1"


@pytest.mark.parametrize("after", [0, 2], ids=["before the first byte", "in the stream"])
async def test_a_client_that_leaves_stops_the_generation(serve: Serve, after: int) -> None:
    async with Ollama() as sim, serve(sim.url) as (front, proxy):
        fault = sim.fault("stall", route="/api/chat", after=after)
        client = await begin(front)
        await sim.wait_for(lambda: fault.hits == 1)
        if after:
            await client.read_head()
            await client.read_chunk()
        client.writer.transport.abort()
        await sim.wait_for(lambda: sim.counters.active == 0)
        assert (await proxy.log.request())["outcome"] == "client_gone"


@pytest.mark.parametrize("kind", ["caddy", "traefik"])
async def test_a_client_that_says_goodbye_and_waits_stops_it_too(kind: str, need: Need, tmp_path: Path) -> None:
    """That is a goodbye in TLS, with the connection left open until it is returned, as asyncio does it."""
    need(kind, installed(kind))
    async with Ollama() as sim, fronted(kind, tmp_path, sim.url) as (front, proxy):
        sim.fault("stall", route="/api/chat", after=2)
        client = await begin(front)
        await client.read_head()
        client.hang_up()
        await sim.wait_for(lambda: sim.counters.active == 0)
        assert (await proxy.log.request())["outcome"] == "client_gone"


@pytest.mark.usefixtures("_curl")
async def test_a_client_that_leaves_a_stream_of_http_2_stops_the_generation(serve: Serve) -> None:
    async with Ollama() as sim, serve(sim.url) as (front, proxy):
        sim.fault("stall", route="/api/chat", after=2)
        client = await curl(front, "2")
        assert client.stdout is not None
        await client.stdout.readline()
        client.kill()
        await client.communicate()
        await sim.wait_for(lambda: sim.counters.active == 0)
        assert (await proxy.log.request())["outcome"] == "client_gone"


# Requests


async def test_the_log_has_the_callers_address_and_not_the_one_he_claims(serve: Serve) -> None:
    async with Ollama() as sim, serve(sim.url) as (front, proxy):
        claims = {"X-Forwarded-For": SPOOFED, "X-Real-IP": SPOOFED, "Forwarded": f"for={SPOOFED}"}
        assert (await front.ask("GET", "/api/tags", headers=claims, source=THERE)).status == 200
        assert (await proxy.log.request())["client_address"] == THERE
        assert SPOOFED.encode() not in b"".join(value for _, value in sim.last.headers)


async def test_bodies_of_megabytes_pass(serve: Serve) -> None:
    image = "A" * 3_000_000
    messages = [{"role": "user", "content": "hi", "images": [image]}]
    async with Ollama("llava") as sim, serve(sim.url) as (front, _):
        answer = await front.ask("POST", "/api/chat", {**CHAT, "model": "llava", "messages": messages})
        assert (answer.status, answer.clean) == (200, True)
        assert sim.last.body.count(b"A") >= len(image)


async def test_a_blob_reaches_the_host_while_it_is_sent(serve: Serve) -> None:
    async with Ollama() as sim, serve(sim.url) as (front, _):
        blob = b"x" * 3_000_000
        client = await front.connect()
        digest = "sha256:8fca6b4c9d8b9bd3a1f4e2f0c5b6d7a8e9f0a1b2c3d4e5f60718293a4b5c6d7e"
        length = {"Content-Length": str(len(blob))}
        await client.send(front.request("POST", f"/api/blobs/{digest}", None, length) + blob[:1000])
        await sim.wait_for(lambda: sim.counters.active == 1)
        await client.send(blob[1000:])
        answer = await client.read()
        assert (answer.status, b"digest" in answer.body) == (400, True)  # Ollama has read all of it to say so
        await client.close()


async def test_refusals_can_be_read(serve: Serve, tmp_path: Path) -> None:
    key = keyed(tmp_path)
    chain = ["logging", {"auth": {"keys": "keys.yaml"}}, {"rate_limit": {"requests": "1/hour"}}]
    async with Ollama() as sim, serve(sim.url, middleware=chain, folder=tmp_path) as (front, _):
        wrong = await front.ask("POST", "/api/chat", CHAT, {"Authorization": "Bearer op_wrong"})
        assert (wrong.status, wrong.headers["x-error-code"]) == (401, "invalid_api_key")
        assert wrong.headers["www-authenticate"].startswith("Bearer ")
        assert "key" in orjson.loads(wrong.body)["error"]
        mine = {"Authorization": f"Bearer {key}"}
        assert (await front.ask("POST", "/api/chat", CHAT, mine)).clean
        full = await front.ask("POST", "/api/chat", CHAT, mine)
        assert (full.status, int(full.headers["retry-after"]) > 0) == (429, True)


async def test_a_request_for_a_websocket_is_answered_as_without_the_front(serve: Serve) -> None:
    async with Ollama() as sim, serve(sim.url) as (front, proxy):
        direct = await ask(proxy.address, "GET", "/api/version", headers=WEBSOCKET)
        through = await front.ask("GET", "/api/version", headers=WEBSOCKET)
        assert (through.status, through.body) == (direct.status, direct.body)
        assert through.status == 200


async def test_pages_of_the_proxy_are_of_its_own_origin(serve: Serve) -> None:
    async with Ollama() as sim, serve(sim.url) as (front, _):
        own = {"Origin": f"https://{front.host}"}
        assert (await front.ask("GET", "/api/tags", headers=own)).status == 200
        assert (await front.ask("GET", "/api/tags", headers={"Origin": "https://evil.example"})).status == 403


SPELLINGS: Final = (
    "/-/status", "/-/", "/-", "/-/config", "/-/metrics", "/%2d/status", "/%2D/status", "//-/status", "/-//status",
    "/./-/status", "/x/../-/status", "/-/x/../status", "/-%2fstatus", "/-%2Fstatus", "/%2f-/status", "/-/%73tatus",
    "/api/%2e%2e/-/status", "/-/./status", "/-/status/", "/-/status?x", "/-/readyz/../status", "/-;x/status",
    "/k/KEY/-/status", "/k/KEY//-/status", "/k%2fKEY/-/status", "/%6b/KEY/-/status", "/k/KEY/%2d/status",
    "/k/KEY%2f-%2fstatus", "//k/KEY/-/status", "/k/KEY/./-/status",
)  # fmt: skip


async def test_nothing_of_the_operators_is_seen_from_the_outside(serve: Serve, kind: str, tmp_path: Path) -> None:
    """Not with their key, and however the path is spelled; but whether the proxy can serve is."""
    key = keyed(tmp_path, "operators")
    chain = ["logging", {"auth": {"keys": "keys.yaml", "path_token": True}}, "access"]
    policies = {"operators": {"access": {"routes": ["read", "inference", "manage", "ops"]}}}
    ops = yaml.safe_load(block(kind, "yaml"))["ops"]
    own = {"listen": ops["listen"].replace("11436", str(free_port()))}
    async with Ollama() as sim:
        async with serve(sim.url, middleware=chain, folder=tmp_path, policies=policies, ops=own) as (front, _):
            for spelling in SPELLINGS:
                keys = {} if "KEY" in spelling else {"Authorization": f"Bearer {key}"}
                answer = await front.ask("GET", spelling.replace("KEY", key), headers=keys)
                assert answer.status >= 300, spelling
            assert (await front.ask("GET", "/-/readyz")).status == 200
            assert (await front.ask("GET", "/-/backends/b1/api/tags")).status == 401
            mine = {"Authorization": f"Bearer {key}"}
            assert (await front.ask("GET", "/-/backends/b1/api/tags", headers=mine)).status == 200
            assert (await front.ask("GET", f"/k/{key}/api/tags")).status == 200


# What a front sends, seen by a server in the place of the proxy


async def test_the_head_that_reaches_the_proxy(kind: str, tmp_path: Path) -> None:
    heads: list[bytes] = []

    async def noting(peer: Peer) -> None:
        while True:
            heads.append(await peer.head())
            await peer.send(reply())

    async with backend(noting) as proxy, in_front(kind, proxy.url.rpartition("/")[2], tmp_path) as front:
        for _ in range(5):
            await front.ask("GET", "/api/tags", headers={"X-Forwarded-For": SPOOFED}, source=THERE)
        assert len(proxy.peers) == 1  # kept alive
        lines = heads[-1].lower().decode().split("\r\n")
        assert lines[0] == "get /api/tags http/1.1"
        assert f"host: {front.host}" in lines
        assert f"x-forwarded-for: {THERE}" in lines
        assert "x-forwarded-proto: https" in lines
        await front.ask("GET", "/api/tags", headers=WEBSOCKET)
        lines = heads[-1].lower().decode().split("\r\n")
        assert {"upgrade: websocket", "connection: upgrade"} <= set(lines)


async def test_a_websocket_passes(serve: Serve) -> None:
    """The bytes after 101 go both ways, frame by frame; the key's answer is that of RFC 6455, section 1.3."""
    async with Ollama() as sim, serve(sim.url) as (front, proxy):
        client = await front.connect()
        await client.send(front.request("GET", "/api/chat", None, WEBSOCKET))
        head = await client.read_head()
        assert (head.status, head.headers["sec-websocket-accept"]) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        held = sim.fault("stall", route="/api/chat", after=1)
        message = json.dumps(CHAT).encode()
        await client.send(b"\x81" + bytes((0x80 | len(message),)) + b"\0\0\0\0" + message)
        async with asyncio.timeout(10):
            await client.reader.readuntil(b'"done":false')
            held.release()
            await client.reader.readuntil(b'"done":true')
        await client.close()
        assert [line["status"] for line in proxy.log.requests] == [101, 200]


async def test_a_request_that_was_sent_is_not_sent_again(kind: str, tmp_path: Path) -> None:
    chats: list[bytes] = []

    async def closing(peer: Peer) -> None:
        while True:
            got = await peer.request()
            if got.startswith(b"POST"):
                chats.append(got)
                return
            await peer.send(reply())

    async with backend(closing) as proxy, in_front(kind, proxy.url.rpartition("/")[2], tmp_path) as front:
        assert (await front.ask("GET", "/api/tags")).status == 200  # so that the next one takes a used connection
        answer = await front.ask("POST", "/api/chat", CHAT)
        assert answer.status == 502
        assert answer.body.startswith({"nginx": b"<html>", "caddy": b"", "traefik": b"Bad Gateway"}[kind])
        assert len(chats) == 1


async def test_a_long_answer_in_one_piece_is_not_collected(kind: str, tmp_path: Path) -> None:
    """Without the proxy's own field, too: `application/json`, whose chunks come as they are made."""
    more = asyncio.Event()
    answer = chunked(b'{"a":1,', b'"b":2}').replace(b"\r\n\r\n", b"\r\nContent-Type: application/json\r\n\r\n", 1)
    first, second = answer[: answer.index(b'"a":1,') + 8], answer[answer.index(b'"a":1,') + 8 :]

    async def slow(peer: Peer) -> None:
        while (await peer.request()).startswith(b"GET"):
            await peer.send(reply())
        await peer.send(first)
        await more.wait()
        await peer.send(second)
        await peer.gone()

    async with backend(slow) as proxy, in_front(kind, proxy.url.rpartition("/")[2], tmp_path) as front:
        client = await front.connect()
        await client.send(front.request("POST", "/api/chat", CHAT))
        assert (await client.read_head()).status == 200
        assert await client.read_chunk() == b'{"a":1,'
        more.set()
        assert await client.read_chunk() == b'"b":2}'
        assert await client.read_chunk() == b""
        await client.close()


# Other places


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
async def test_over_a_unix_socket(kind: str, need: Need, tmp_path: Path) -> None:
    need(kind, installed(kind))
    policy = yaml.safe_load(block(kind, "yaml", 1))
    shown = block(kind, {"nginx": "nginx", "caddy": "caddyfile"}[kind], 1)
    here = f"unix:{tmp_path}/proxy.sock"
    assert policy["listen"].removeprefix("unix:") in shown
    async with Ollama() as sim:
        async with fronted(kind, tmp_path, sim.url, listen=here, trusted_proxies=policy["trusted_proxies"]) as (
            front,
            proxy,
        ):
            claims = {"X-Forwarded-For": SPOOFED}
            assert (await front.ask("POST", "/api/chat", CHAT, claims, source=THERE)).clean
            assert (await proxy.log.request())["client_address"] == THERE


ONE: Final = {
    "caddy": "\treverse_proxy 127.0.0.1:11435 {\n",
    "traefik": "        servers:\n          - url: http://127.0.0.1:11435\n",
}


@pytest.mark.parametrize(("kind", "language", "number"), [("caddy", "caddyfile", 2), ("traefik", "yaml", 3)])
async def test_of_several_proxies_the_one_is_asked_that_can_serve(
    kind: str, language: str, number: int, need: Need, tmp_path: Path
) -> None:
    need(kind, installed(kind))
    server = {"hosts": [NAME]}
    async with Ollama() as sim, running(sim.url, server=server) as resting, running(sim.url, server=server) as working:
        resting.app.pool.backends[0].health.draining = True
        changes = {ONE[kind]: block(kind, language, number), "21435": str(working.address[1]), "5s": "50ms"}
        async with in_front(kind, resting.address, tmp_path, changes) as front:
            await resting.log.wait_for(lambda log: len(log.requests) > 4)  # it was told, and told again
            for _ in range(6):
                assert (await front.ask("GET", "/api/version")).status == 200
            assert not [line for line in resting.log.requests if line["route"] == "/api/version"]
