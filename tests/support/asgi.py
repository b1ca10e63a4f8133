"""What tests of our own plugins ask beside `proxy.testing`: what is left of a request, who wraps `send`."""

from collections.abc import Callable

from proxy.kernel.asgi import ASGIApp, Message, Receive, Scope, Send
from proxy.kernel.exchange import Exchange
from proxy.testing import make_exchange


async def assert_not_wrapped(make: Callable[[ASGIApp], ASGIApp]) -> None:
    """Assert that the plugin which `make` puts around an app hands on `receive` and `send` as they came."""
    seen: list[object] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([receive, send])

    async def send(message: object) -> None: ...

    exchange = make_exchange()
    receive = exchange.receive
    await make(inner)(exchange.scope, receive, send)
    assert seen == [receive, send]


def unread(exchange: Exchange) -> Receive:
    """Return what gives the messages of the client that nobody has read, also when the request is over."""
    return exchange._body._source


async def hands_send_on(plugin: Callable[[ASGIApp], ASGIApp], exchange: Exchange) -> bool:
    """Whether the app behind a plugin gets the very `send` that the plugin got: then nothing of it runs per chunk."""
    given: list[Send] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        given.append(send)

    async def send(message: Message) -> None:
        raise AssertionError("nothing is sent here")

    await plugin(inner)(exchange.scope, exchange.receive, send)
    return given == [send]
