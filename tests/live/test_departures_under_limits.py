"""A client may leave at any moment: at whatever turn of the loop it does, the frame's end of it leaves nothing held."""

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from middleware.rate_limit.plugin import RateLimit
from proxy.chain.frame import Frame, Generation
from proxy.kernel.asgi import Message, Scope
from proxy.kernel.quotas import Quota
from proxy.kernel.routes import RouteTable
from proxy.kernel.store import Store
from proxy.services.system_clock import SystemClock
from proxy.stores.memory import MemoryStore
from proxy.stores.redis import RedisStore
from tests.support.limits import CHAT, Backend, rates
from tests.support.options import body_budget
from tests.support.redis import redis_server
from tests.support.stores import windows

TURNS = 60
"""Turns of the loop; a decision of Redis takes about twenty."""


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore(SystemClock())
    else:
        with redis_server() as server:
            opened = RedisStore(server.url, SystemClock(), within=5)
            yield opened
            await opened.aclose()


class Client:
    """One that sends its request whole and leaves after so many turns."""

    def __init__(self, turns: int) -> None:
        self._messages: list[Message] = [{"type": "http.request", "body": orjson.dumps(CHAT), "more_body": False}]
        self._turns = turns

    @property
    def scope(self) -> Scope:
        head = {"type": "http", "method": "POST", "path": "/api/chat", "query_string": b"", "scheme": "http"}
        return {**head, "headers": [(b"transfer-encoding", b"chunked")], "client": ("192.0.2.1", 1), "state": {}}

    async def receive(self) -> Message:
        if self._messages:
            return self._messages.pop()
        for _ in range(self._turns):
            await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        raise AssertionError("nothing is answered here")


async def test_whoever_leaves_at_whatever_turn_holds_nothing(store: Store) -> None:
    plugin = RateLimit(Backend(), store=store, tokens=rates("1000000/day"), streams=TURNS)
    frame = Frame(Generation(1, plugin, RouteTable()), bodies=body_budget())
    for turns in range(TURNS):
        client = Client(turns)
        await frame(client.scope, client.receive, client.send)
    await frame.settled()
    quota = Quota("rate_limit/default/identity=@192.0.2.1", (), windows("1000000/day"), TURNS)
    async with asyncio.timeout(10):
        while [level.used for level in await store.look([quota])] != [0, 0]:  # noqa: ASYNC110  (only a look tells)
            await asyncio.sleep(0)
