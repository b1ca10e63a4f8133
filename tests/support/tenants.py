"""A plugin that believes the caller, and clients of several tenants who keep the proxy busy."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar

from proxy.kernel.asgi import ASGIApp, Receive, Scope, Send, header
from proxy.kernel.defined_policies import Policies
from proxy.kernel.exchange import Exchange
from proxy.kernel.inner_request import stored_caller
from proxy.testing import suppose
from tests.support.wire import Client, Reply, request


class Believe:
    """Takes tenant, policy and identity from the headers of these names, or from a stored caller."""

    sets_policy: ClassVar = True

    def __init__(self, app: ASGIApp, *, policies: Policies) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        if (stored := stored_caller(scope)) is not None:
            suppose(exchange, tenant=stored.tenant, policy=stored.policy, identity=stored.identity)
        for name in ("tenant", "policy", "identity"):
            value = header(scope["headers"], name.encode())
            if value is not None:
                suppose(exchange, **{name: value.decode()})
        await self.app(scope, receive, send)


BELIEVE = "tests.support.tenants:Believe"
"""Its name in a policy file."""


def chat(model: str = "llama3.2", *, tokens: int = 1, stream: bool = False) -> dict[str, Any]:
    """Return a chat request that generates `tokens`."""
    messages = [{"role": "user", "content": "hi"}]
    return {"model": model, "messages": messages, "stream": stream, "options": {"num_predict": tokens}}


class Answers:
    """Counts answers, and lets a test wait for more of them."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = asyncio.Event()

    def note(self) -> None:
        self.count += 1
        self._changed.set()

    async def more(self, count: int, timeout: float = 30.0) -> None:
        """Wait until there are `count` more."""
        enough = self.count + count
        async with asyncio.timeout(timeout):
            while self.count < enough:
                self._changed.clear()
                await self._changed.wait()


@dataclass
class Caller:
    """Clients of one tenant, each of which asks again as soon as it has its answer.

    Attributes:
        answers: counts the answers of all callers that share it.
        seconds: how long each answered request took.
        answered: when each was, by `time.monotonic`.
    """

    address: tuple[str, int]
    tenant: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=chat)
    answers: Answers = field(default_factory=Answers)
    seconds: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)

    async def ask(self, client: Client) -> Reply:
        """Ask once, and note it."""
        began = time.monotonic()
        await client.send(request("POST", "/api/chat", dict(self.body), {"Tenant": self.tenant, **self.headers}))
        reply = await client.read(timeout=30.0)
        self.answered.append(time.monotonic())
        self.seconds.append(self.answered[-1] - began)
        self.answers.note()
        return reply

    async def again_and_again(self, times: int | None = None) -> None:
        """Ask on one connection so many times; without end where `times` is None."""
        client = await Client.connect(self.address)
        try:
            for _ in count() if times is None else range(times):
                reply = await self.ask(client)
                assert reply.status == 200, reply
        finally:
            client.hang_up()

    @asynccontextmanager
    async def busy(self, clients: int) -> AsyncIterator["Caller"]:
        """Keep so many clients asking."""
        tasks = [asyncio.create_task(self.again_and_again()) for _ in range(clients)]
        try:
            yield self
        finally:
            failed = [task for task in tasks if task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for task in failed:
                task.result()
