"""What the tests of rate_limit share, whichever store it counts in."""

import asyncio
from typing import Any

import orjson

from middleware.rate_limit.options import Limit
from middleware.rate_limit.plugin import RateLimit
from proxy.kernel.asgi import Receive, Scope, Send
from proxy.kernel.attempts import Usage
from proxy.kernel.exchange import Exchange
from proxy.kernel.units import Rate
from proxy.testing import Answer, call, make_exchange, ok, suppose

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [], "options": {"num_predict": 60}}
PROMPT = len(orjson.dumps(CHAT)) // 4
RESERVED = PROMPT + 60
"""Tokens that `CHAT` reserves."""


def rates(*texts: str) -> tuple[Rate, ...]:
    return tuple(map(Rate.parse, texts))


def limit(**options: object) -> Limit:
    return Limit.model_validate(options)


def caller(identity: str | None = "alice", path: str = "/api/chat", method: str = "POST", **more: Any) -> Exchange:
    """A request of `identity`; ``document`` and ``tenant`` may be set."""
    document = more.pop("document", CHAT)
    tenant = more.pop("tenant", None)
    exchange = make_exchange(method, path, body=orjson.dumps(document), **more)
    suppose(exchange, identity=identity, tenant=tenant)
    return exchange


async def ask(plugin: RateLimit, identity: str | None = "alice", **more: Any) -> Answer:
    return await call(plugin, caller(identity, **more))


class Backend:
    """An inner app that holds requests until they are released, then fails or says what they used."""

    def __init__(self, usage: Usage | None = None, failure: Exception | None = None) -> None:
        self.usage = usage
        self.failure = failure
        self.release = asyncio.Event()
        self.arrivals: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.arrivals.put_nowait("running")
        await self.release.wait()
        if self.failure is not None:
            raise self.failure
        await ok(scope, receive, send)
        suppose(Exchange.of(scope), usage=self.usage)

    async def arrived(self, number: int = 1) -> None:
        async with asyncio.timeout(10):
            for _ in range(number):
                await self.arrivals.get()


EDGES = [
    ({"requests": rates("37/minute")}, 37),
    ({"requests": rates("70/minute", "41/day")}, 41),
    ({"tokens": rates(f"{RESERVED * 13 + 1}/minute")}, 14),  # the last one finds a single token left
    ({"tokens": rates(f"{RESERVED * 21}/month")}, 21),
    ({"streams": 23}, 23),
    ({"requests": rates("19/minute"), "tokens": rates("10000/day"), "streams": 21}, 19),
    ({"requests": rates("90/day"), "limits": (limit(name="all", by="tenant", requests="31/day"),)}, 31),
]
"""Options of rate_limit, and how many of 100 requests of one caller they let through."""


async def passing_of_100(backend: Backend, *plugins: RateLimit) -> int:
    """Return how many of 100 requests, all at once and dealt out to `plugins`, get to `backend`."""
    decisions = backend.arrivals
    tasks = [asyncio.create_task(ask(plugins[number % len(plugins)])) for number in range(100)]
    for task in tasks:
        task.add_done_callback(lambda _: decisions.put_nowait("refused"))
    async with asyncio.timeout(30):
        decided = [await decisions.get() for _ in tasks]
    backend.release.set()
    answers = [await task for task in tasks]
    passed = decided.count("running")
    assert [answer.status for answer in answers].count(200) == passed
    assert all(answer.error.status == 429 for answer in answers if answer.error is not None)
    return passed
