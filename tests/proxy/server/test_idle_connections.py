"""proxy/server/idle_connections.py, over real sockets."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from proxy.server.connection_counts import UNBOUNDED
from proxy.server.guarded_protocol import GuardedProtocol
from proxy.server.idle_connections import NONE_FOR, YOUNGEST, IdleConnections
from proxy.server.server import serve
from tests.support.backend import eventually
from tests.support.options import server_options
from tests.support.raw import Raw, Recorder, wait_for_disconnect

BOTH_LOOPS = True
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Clock:
    """The loop's time, moved by a test."""

    def __init__(self, idle: IdleConnections) -> None:
        self.ahead = 0.0
        self._loop = asyncio.get_running_loop()
        idle._loop = self  # type: ignore[assignment]  # `time` is all it uses

    def time(self) -> float:
        return self._loop.time() + self.ahead


async def answered(stack: AsyncExitStack, address: str) -> Raw:
    """A connection that has had an answer, and is idle since."""
    client = await stack.enter_async_context(await Raw.open(address))
    await client.send(GET)
    await client.response()
    return client


async def test_the_longest_idle_go_first_and_those_that_are_busy_never() -> None:
    busy = Recorder(wait_for_disconnect)
    options = server_options(listen=["127.0.0.1:0"], total=100)
    async with serve(Recorder(), options) as server, AsyncExitStack() as stack:
        idle = IdleConnections(server._state)
        clock = Clock(idle)
        oldest = await answered(stack, server.addresses[0])
        begun = asyncio.get_running_loop().time()
        await eventually(lambda: asyncio.get_running_loop().time() > begun + 0.002)  # uvloop counts milliseconds
        younger = await answered(stack, server.addresses[0])
        assert not idle.close_some(UNBOUNDED), "they are too young"
        clock.ahead = YOUNGEST + NONE_FOR
        assert idle.close_some(UNBOUNDED)
        assert await oldest.rest() == b""
        await younger.send(GET)
        assert (await younger.response()).status == 200
        assert server.turned_away == {"idle": 1}
        assert server.open_connections == 1
    async with serve(busy, options) as server, AsyncExitStack() as stack:
        idle = IdleConnections(server._state)
        clock = Clock(idle)
        client = await stack.enter_async_context(await Raw.open(server.addresses[0]))
        await client.send(GET)
        await busy.next()
        clock.ahead = 3600
        assert not idle.close_some(UNBOUNDED)
        assert server.open_connections == 1


async def test_an_address_with_many_makes_way_for_one_with_few_however_young_it_is() -> None:
    async with serve(Recorder(), server_options(listen=["127.0.0.1:0"], total=10)) as server:
        idle = IdleConnections(server._state)
        clients = [await Raw.open(server.addresses[0]) for _ in range(5)]
        for client in clients[:2]:
            await client.send(GET)
            await client.response()
        await eventually(lambda: len(server._state.connections) == 5)
        assert not idle.close_some("127.0.0.1"), "it would make way for its own"
        assert idle.close_some("192.0.2.1")
        assert server.open_connections == 4
        for client in clients:
            client.sock.close()


async def test_half_a_head_is_idle_and_so_is_who_was_refused() -> None:
    async with serve(Recorder(), server_options(listen=["127.0.0.1:0"])) as server:
        async with await Raw.open(server.addresses[0]) as client:
            await client.send(b"GET / HT")
            connection = await one(server._state.connections)
            since = connection.idle_since()
            assert since is not None
            assert abs(since - asyncio.get_running_loop().time()) < 10
            await client.send(b"\n")
            await client.response()
            since = connection.idle_since()
            assert since is not None
            assert abs(since - asyncio.get_running_loop().time()) < 5
            connection.make_way()
            assert connection.idle_since() is None


async def one(connections: set[Any]) -> GuardedProtocol:
    await eventually(lambda: len(connections) == 1)
    (connection,) = connections
    assert isinstance(connection, GuardedProtocol)
    return connection
