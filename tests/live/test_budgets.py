"""One caller who takes what all need: memory for bodies, and work for requests that are over their limit.

The proxy is a process of its own where somebody's time is measured; the attack runs beside it.
"""

import asyncio
import random
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard

from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.process import Process
from tests.support.proxy import Running, running
from tests.support.redis import redis_server
from tests.support.wire import Client, ask, request

MIB = 2**20
ASKED = 100
"""Requests of the honest caller, undisturbed and again under attack."""
ROUNDS = 4
"""How often the attack is measured: a busy machine may spoil one, none may have a refusal."""


def chat(size: int = 200 * 2**10, **more: Any) -> bytes:
    """Return a chat request of about `size` bytes that no compressor makes much of."""
    words = random.Random(size).randbytes(size // 2).hex()
    return orjson.dumps({"model": "llama3.2", "messages": [{"role": "user", "content": words}], **more})


SHORT = chat(stream=False, options={"num_predict": 1})


@dataclass
class Attacked:
    """A proxy and the keys of its callers."""

    address: tuple[str, int]
    sim: Ollama
    alice: str
    guests: list[str]

    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"}

    async def honest(self) -> list[float]:
        """Ask as alice, one request after the other; return how long each took. All must be answered."""
        seconds = []
        client = await Client.connect(self.address)
        for _ in range(ASKED):
            began = time.perf_counter()
            await client.send(request("POST", "/api/chat", SHORT, self.headers(self.alice)))
            reply = await client.read()
            assert (reply.status, reply.clean) == (200, True), reply
            seconds.append(time.perf_counter() - began)
        client.hang_up()
        return sorted(seconds)


@asynccontextmanager
async def attacked(folder: Path, *, guests: int = 1, **body: str) -> AsyncIterator[Attacked]:
    keys = []
    for name in ("alice", *(f"guest-{number}" for number in range(guests))):
        key, entry = new_key(name, now=time.time())
        add_key(folder / "keys.yaml", entry)
        keys.append(key)
    async with Ollama(num_parallel=100, tokens=3) as sim:
        settings = {
            "listen": "127.0.0.1:0",
            "backends": [{"name": "b1", "url": sim.url}],
            "server": {"body": body},
            "middleware": [{"auth": {"keys": "keys.yaml"}}, "access", "queue", "retry"],
        }
        async with Process.started(folder / "proxy.yaml", settings, stdout=asyncio.subprocess.DEVNULL) as process:
            yield Attacked(process.address, sim, keys[0], keys[1:])


Attack = Callable[[Attacked, AsyncExitStack], Awaitable[None]]


async def trickle(proxy: Attacked, stack: AsyncExitStack) -> None:
    """Eight connections of one key announce 64 MiB each, and send 128 KiB/s in all."""
    await _slow(proxy, stack, connections=8, begin=b"{", part=1600)


async def trickle_by_many(proxy: Attacked, stack: AsyncExitStack) -> None:
    """Twelve keys have sent a part of what they announced, as much as they may hold and more, and go on slowly."""
    await _slow(proxy, stack, connections=4, begin=b"{" + b" " * MIB, part=1600)


async def _slow(proxy: Attacked, stack: AsyncExitStack, *, connections: int, begin: bytes, part: int) -> None:
    async def one(key: str) -> None:
        headers = {**proxy.headers(key), "Content-Length": str(64 * MIB)}
        while True:
            client = await Client.connect(proxy.address)
            refused = asyncio.create_task(client.read_head(timeout=60.0))
            try:
                with suppress(ConnectionError):
                    await client.send(request("POST", "/api/chat", headers=headers) + begin)
                    while not refused.done():
                        await client.send(b" " * part)
                        await asyncio.wait([refused], timeout=0.1)
            finally:
                refused.cancel()
                await asyncio.gather(refused, return_exceptions=True)
                client.hang_up(reset=True)
            await asyncio.sleep(1.0)  # as the refusal says

    tasks = [asyncio.create_task(one(key)) for key in proxy.guests for _ in range(connections)]

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    stack.push_async_callback(stop)


async def large_bodies(proxy: Attacked, stack: AsyncExitStack) -> None:
    """51 streams whose bodies were large, compressed, are kept open."""
    proxy.sim.fault("stall", route="/v1/chat/completions", after=1, times=None)
    body = zstandard.compress(chat(2 * MIB, stream=True, max_tokens=100_000))
    headers = {"Content-Encoding": "zstd", **proxy.headers(proxy.guests[0])}
    for _ in range(51):
        client = await Client.connect(proxy.address)
        stack.callback(client.hang_up, reset=True)
        await client.send(request("POST", "/v1/chat/completions", body, headers))
        assert (await client.read_head()).status == 200


@pytest.mark.parametrize(
    ("attack", "guests", "body"),
    [
        (trickle, 1, {}),
        (trickle_by_many, 12, {"total": "64MiB"}),
        (large_bodies, 1, {"each": "8MiB", "total": "64MiB"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_an_honest_caller_does_not_notice(
    tmp_path: Path, attack: Attack, guests: int, body: dict[str, str]
) -> None:
    ratios = []
    async with attacked(tmp_path, guests=guests, **body) as proxy:
        for _ in range(ROUNDS):
            undisturbed = await proxy.honest()
            async with AsyncExitStack() as stack:
                await attack(proxy, stack)
                disturbed = await proxy.honest()
            ratios.append(disturbed[-2] / undisturbed[-2])  # p99 of a hundred
            if ratios[-1] <= 3:
                return
    raise AssertionError(f"p99 under attack was {ratios} times that without")


# What is held


@asynccontextmanager
async def streaming(proxy: Running, body: bytes, count: int, **headers: str) -> AsyncIterator[None]:
    """So many streams that have begun and do not end."""
    path = "/v1/chat/completions" if headers else "/api/chat"
    async with AsyncExitStack() as stack:
        for _ in range(count):
            client = await Client.connect(proxy.address)
            stack.callback(client.hang_up, reset=True)
            await client.send(request("POST", path, body, {name.replace("_", "-"): headers[name] for name in headers}))
            assert (await client.read_head()).status == 200
        yield


@pytest.mark.parametrize("retry", [[], ["retry"]])
@pytest.mark.parametrize("encoding", ["", "zstd"])
async def test_a_body_is_held_until_its_answer_begins(retry: list[str], encoding: str) -> None:
    body = chat(2 * MIB, stream=True, max_tokens=100_000, options={"num_predict": 100_000})
    headers = {"Content_Encoding": encoding} if encoding else {}
    sent = zstandard.compress(body) if encoding else body
    bounds = {"body": {"each": "8MiB", "total": "32MiB"}}
    chain = ["access", "parameters", "queue", *retry]
    async with (
        Ollama(num_parallel=100, token_delay=0.05) as sim,
        running(sim.url, middleware=chain, server=bounds) as proxy,
    ):
        async with streaming(proxy, sent, 51, **headers):
            assert (proxy.app.bodies.held, proxy.app.bodies.callers) == (0, 0)
            assert len(proxy.app.frame.live) == 51
            (model,) = {exchange.model.short for exchange in proxy.app.frame.live if exchange.model is not None}
            assert model == "llama3.2:latest"
        await eventually(lambda: not proxy.app.frame.live)


async def forgetful(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A host that keeps nothing of a request, begins its answer and does not end it."""
    head = await reader.readuntil(b"\r\n\r\n")
    left = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while left:
        left -= len(await reader.read(min(left, 2**16)))
    chunk = b'{"model":"llama3.2","message":{"role":"assistant","content":"a"},"done":false}\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head + b"%x\r\n%b\r\n" % (len(chunk), chunk))
    with suppress(ConnectionError):
        await reader.read()
    writer.close()


@pytest.mark.parametrize("rewritten", [False, True])
async def test_while_its_answer_streams_nothing_of_a_body_is_in_memory(rewritten: bool) -> None:
    body = chat(2 * MIB, options={"num_ctx": 2**20})
    parameters = {"parameters": {"num_ctx": {"max": 8192}}} if rewritten else "parameters"
    server = await asyncio.start_server(forgetful, "127.0.0.1", 0)
    url = "http://{}:{}".format(*server.sockets[0].getsockname())
    async with server, running(url, middleware=["access", parameters, "queue", "retry"]) as proxy:
        async with streaming(proxy, body, 1):
            pass  # what is made once
        await eventually(lambda: not proxy.app.frame.live)
        tracemalloc.start()
        try:
            async with streaming(proxy, body, 20):
                assert tracemalloc.get_traced_memory()[0] < 2 * len(body)
        finally:
            tracemalloc.stop()
        await eventually(lambda: not proxy.app.frame.live)


# Over a limit


SHIPPED = [
    "logging",
    "metrics",
    {"auth": {"anonymous": "guests"}},
    "access",
    {"parameters": {"num_ctx": {"max": 8192}}},
]
BY_MODEL = {"name": "each", "by": "model", "requests": "100/day"}
SPENT = {"rate_limit": {"requests": "1/day"}}
PLACES: list[list[object]] = [
    [*SHIPPED, SPENT, "queue", "retry"],
    [*SHIPPED[:3], SPENT, *SHIPPED[3:]],
    [*SHIPPED, "queue", "retry", SPENT],
    [*SHIPPED, "queue", {"use": "starlette.middleware.gzip:GZipMiddleware"}, SPENT, "retry"],
    ["access", SPENT],
    [*SHIPPED, {"rate_limit": {"tokens": "1/day"}}, "queue", "retry"],
    [*SHIPPED, {"rate_limit": {"limits": [{"name": "all", "by": "address", "requests": "1/month"}]}}, "queue"],
    # where the limit itself is the first to want the body
    [SHIPPED[2], {"rate_limit": {"tokens": "1/day"}}, "access"],
    ["logging", SHIPPED[2], {"rate_limit": {"requests": "1/day", "tokens": "100000/day"}}, "queue", "retry"],
    ["logging", SHIPPED[2], {"rate_limit": {"requests": "1/day", "limits": [BY_MODEL]}}, "queue", "retry"],
]
"""Chains with a limit that one request uses up, wherever it stands."""

USES_UP = orjson.dumps({"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": False})


@asynccontextmanager
async def used_up(chain: list[object], **settings: Any) -> AsyncIterator[Running]:
    """A proxy where the caller has used up what he may."""
    policies: dict[str, Any] = {"guests": {}} if len(chain) > 2 else {}
    async with (
        Ollama() as sim,
        running(sim.url, middleware=chain, policies=policies, allow_anonymous_network=True, **settings) as proxy,
    ):
        client = await Client.connect(proxy.address)
        await client.send(request("POST", "/api/chat", USES_UP))
        assert (await client.read()).status == 200
        client.hang_up()
        await proxy.app.frame.settled()
        yield proxy


async def refused_unread(proxy: Running, path: str, headers: dict[str, str]) -> None:
    """Announce a body, send none of it, and be refused."""
    client = await Client.connect(proxy.address)
    await client.send(request("POST", path, headers=headers))
    reply = await client.read_head()  # and no `100 Continue` before it
    assert (reply.status, int(reply.headers["retry-after"]) > 1) == (429, True)
    client.hang_up()


@pytest.mark.parametrize("chain", PLACES, ids=range(len(PLACES)))
async def test_who_is_over_a_limit_is_told_before_the_body_is_read(chain: list[object]) -> None:
    async with used_up(chain) as proxy:
        for path in ("/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/audio/transcriptions"):
            for headers in ({"Content-Length": "1000000"}, {"Transfer-Encoding": "chunked"}):
                await refused_unread(proxy, path, headers)
                await refused_unread(proxy, path, {**headers, "Expect": "100-continue"})
        await eventually(lambda: not proxy.app.frame.live)
        assert proxy.app.bodies.held == 0


@pytest.mark.parametrize("chain", [PLACES[0], PLACES[7], PLACES[8]], ids=["requests", "tokens", "both"])
async def test_on_a_shared_store_it_is_told_without_asking_again(chain: list[object]) -> None:
    with redis_server() as redis:
        async with used_up(chain, store=redis.url) as proxy:
            # What a request used is told to the store when it is over, and the next refusal says that it was all.
            assert (await ask(proxy.address, "POST", "/api/chat", USES_UP)).status == 429
            await refused_unread(proxy, "/api/chat", {"Content-Length": "1000000"})
            calls = redis.command("INFO", "commandstats")
            for _ in range(20):
                await refused_unread(proxy, "/api/chat", {"Content-Length": "1000000"})
            assert scripts_in(redis.command("INFO", "commandstats")) == scripts_in(calls)


def scripts_in(stats: object) -> str:
    """Return what a server says of the scripts that it ran."""
    text = stats.decode() if isinstance(stats, bytes) else str(stats)
    return "".join(line for line in text.splitlines() if "eval" in line)


async def test_the_rest_of_a_body_that_comes_anyway_is_no_request() -> None:
    async with used_up(PLACES[0]) as proxy:
        client = await Client.connect(proxy.address)
        await client.send(request("POST", "/api/chat", headers={"Content-Length": "300000"}))
        refused = await client.read()
        assert (refused.status, refused.clean) == (429, True)
        await client.send(b"GET /api/pull HTTP/1.1\r\n\r\n" * 10_000 + b" " * 40_000)
        await client.send(request("GET", "/api/version"))
        assert (await client.read()).status == 200
        client.hang_up()
