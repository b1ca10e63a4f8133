"""proxy/stores/redis_link.py: bounded calls, and the breaker, without a server."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisClusterException

from proxy.kernel.store import StoreUnavailable
from proxy.stores import redis_link as module
from proxy.stores.redis_link import PLACES, Link


class Server:
    """Stands in for redis-py: a script and a write that do what they are told."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.calls = 0
        self.at_once = 0
        self.most = 0
        self.probes = 0
        self.third_probe = asyncio.Event()
        self.returned = asyncio.Event()

    async def script(self, keys: Any, args: Any) -> Any:
        self.calls += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.answers.wait()
            await asyncio.sleep(0)
            if self.failure is not None:
                raise self.failure
            return [*keys, *args]
        finally:
            self.at_once -= 1

    async def write(self) -> None:
        self.probes += 1
        if self.probes == 3:
            self.third_probe.set()
        await self.script((), ())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(module, "PROBE_PAUSE", 0.001)
    return Server()


@pytest.fixture
async def link(server: Server) -> AsyncIterator[Link]:
    made = Link("redis://h", server.write, within=0.05, returned=server.returned.set)
    yield made
    await made.aclose()


async def run(link: Link, server: Server) -> Any:
    return await link.run(server.script, ["key"], [1])


async def test_a_call_returns_what_the_script_does(link: Link, server: Server) -> None:
    assert await run(link, server) == ["key", 1]
    assert link.up


@pytest.mark.parametrize(
    "failure",
    [
        RedisConnectionError("refused"),
        ReadOnlyError("replica"),
        OutOfMemoryError("full"),
        RedisClusterException("no nodes"),
        OSError(),
        TimeoutError(),
        RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed"),
    ],
)
async def test_after_a_failure_nothing_is_called_until_a_write_gets_through(
    link: Link, server: Server, failure: Exception
) -> None:
    server.failure = failure
    with pytest.raises(StoreUnavailable):
        await run(link, server)
    assert not link.up
    calls = server.calls
    with pytest.raises(StoreUnavailable, match="unreachable"):
        await run(link, server)
    assert server.calls == calls
    async with asyncio.timeout(5):
        await server.third_probe.wait()
        assert not link.up
        server.failure = None
        await server.returned.wait()
    assert await run(link, server) == ["key", 1]


async def test_a_silent_server_holds_no_call_longer_than_its_time(link: Link, server: Server) -> None:
    server.answers.clear()
    async with asyncio.timeout(5):
        results = await asyncio.gather(*(run(link, server) for _ in range(PLACES * 3)), return_exceptions=True)
    assert {type(result) for result in results} == {StoreUnavailable}
    assert server.most <= PLACES + 1  # and the probe
    assert server.at_once <= 1
    server.answers.set()
    async with asyncio.timeout(5):
        await server.returned.wait()
    assert await run(link, server) == ["key", 1]


async def test_a_loop_that_was_busy_reads_the_answer_before_it_calls_the_server_dead(link: Link) -> None:
    here, there = socket.socketpair()
    here.setblocking(False)
    asked = asyncio.Event()

    async def script(keys: Any, args: Any) -> bytes:
        asked.set()
        return await asyncio.get_running_loop().sock_recv(here, 1)

    with here, there:
        call = asyncio.create_task(link.run(script, [], []))
        await asked.wait()
        await asyncio.sleep(0)
        there.send(b"!")
        time.sleep(0.1)  # noqa: ASYNC251  # twice the time of a call
        assert await call == b"!"
    assert link.up


async def test_a_bug_is_no_failure_of_the_server(link: Link, server: Server) -> None:
    server.failure = TypeError("ours")
    with pytest.raises(TypeError):
        await run(link, server)
    assert link.up


async def test_a_server_that_is_not_there_at_the_start_is_not_asked_by_the_first_request(
    link: Link, server: Server
) -> None:
    server.failure = OSError()
    await link.connect()
    assert not link.up
    with pytest.raises(StoreUnavailable):
        await run(link, server)


async def test_closing_stops_the_probes(link: Link, server: Server) -> None:
    server.failure = OSError()
    await link.connect()
    await link.aclose()
    probes = server.probes
    for _ in range(5):
        await asyncio.sleep(0)
    assert server.probes == probes
