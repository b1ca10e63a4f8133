"""The plugin `metrics`: every request is counted once, however it ends, and nothing is done before."""

import pytest

from middleware.metrics import Metrics
from proxy.kernel.asgi import Receive, Scope, Send
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.metrics import Metrics as Service
from proxy.testing import call, make_exchange, ok
from tests.support.asgi import assert_not_wrapped


class Counted(Service):
    def __init__(self) -> None:
        self.outcomes: list[str | None] = []

    def count(self, exchange: Exchange) -> None:
        self.outcomes.append(exchange.outcome)

    async def exposition(self, accept: str = "") -> tuple[bytes, str]:
        return b"", "text/plain"


async def test_each_request_is_counted_once_when_it_is_over() -> None:
    service = Counted()
    plugin = Metrics(ok, metrics=service)
    await call(plugin, make_exchange())
    await call(plugin, make_exchange(), outcome="client_gone")
    assert service.outcomes == ["completed", "client_gone"]


async def test_a_refusal_further_in_is_counted() -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        raise Refused(403, "no")

    service = Counted()
    await call(Metrics(refuse, metrics=service), make_exchange())
    assert service.outcomes == ["refused"]


async def test_receive_and_send_are_passed_on_as_they_came() -> None:
    await assert_not_wrapped(lambda inner: Metrics(inner, metrics=Counted()))


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_other_scopes_pass(kind: str) -> None:
    seen: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    await Metrics(inner, metrics=Counted())({"type": kind}, None, None)  # type: ignore[arg-type]  # neither is used
    assert seen == [kind]
