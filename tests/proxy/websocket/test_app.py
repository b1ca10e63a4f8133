"""The end of the chain for a request that opens a WebSocket."""

from typing import Any

import pytest

from proxy.kernel.asgi import Message, Scope, over
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import KEY, Exchange
from proxy.kernel.ollama_routes import OLLAMA
from proxy.kernel.routes import RouteTable, socket_routes
from proxy.kernel.websocket import OPENING, Opening
from proxy.testing import make_exchange
from proxy.testing.exchanges import SETTINGS
from proxy.websocket.app import WebSockets
from proxy.wiring import server_options
from tests.support.options import body_budget

ROUTES = RouteTable(socket_routes(OLLAMA))


async def opened(
    *, protocols: tuple[str, ...] = (), fallback: str | None = None, flaw: Refused | None = None, asks: bool = True
) -> tuple[list[Message], list[Any]]:
    """Return the response, and what makes the session."""
    accepted: list[Any] = []
    options = server_options(SETTINGS).websocket
    assert options is not None
    scope: Scope = {**make_exchange("GET", "/v1/responses").scope, "state": {}}
    exchange = scope[KEY] = Exchange(
        scope,
        over,
        id="1",
        routes=ROUTES,
        client="::1",
        started_at=0.0,
        bodies=body_budget(),
        generation=1,
        relayed=False,
    )
    if asks:
        scope["state"][OPENING] = Opening("/v1/responses", b"", [], protocols, fallback, flaw, options, accepted.append)
    sockets = WebSockets(body_budget())

    async def app(*_: object) -> None: ...

    sockets.serve_by(app)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await sockets(exchange.scope, exchange.receive, send)
    return sent, accepted


@pytest.mark.parametrize(
    ("protocols", "fallback", "selected"),
    [((), None, []), (("a", "b"), "bearer.t", [b"a"]), ((), "bearer.t", [b"bearer.t"])],
)
async def test_a_socket_is_accepted(protocols: tuple[str, ...], fallback: str | None, selected: list[bytes]) -> None:
    sent, accepted = await opened(protocols=protocols, fallback=fallback)
    assert (sent[0]["status"], [value for _, value in sent[0]["headers"]]) == (101, selected)
    assert accepted[0].keywords["responses"] is True
    assert accepted[0].keywords["flavor"] == "openai"


async def test_what_opens_none_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        await opened(asks=False)
    assert (refused.value.status, refused.value.headers["allow"]) == (405, "POST")
    with pytest.raises(Refused) as refused:
        await opened(flaw=Refused(400, "no key"))
    assert refused.value.message == "no key"
