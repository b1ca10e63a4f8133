"""proxy/relay/answer_stream.py, over real sockets to the simulator."""

import httpx
import pytest

from proxy.kernel.asgi import ASGIApp, Message, Receive, Scope, Send
from proxy.simulator import Ollama
from proxy.testing import call, make_exchange
from tests.support import wire
from tests.support.dispatching import CHAT, ask, dispatching
from tests.support.proxy import running


async def test_redirects_are_passed_on_not_followed() -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        sim.fault("redirect", route="/api/chat", status=307, location="http://elsewhere/")
        answer = await ask(app)
        assert (answer.status, answer.header("location")) == (307, "http://elsewhere/")
        assert sim.counters.requests == 1


async def test_bytes_behind_an_answer_end_the_connection() -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        sim.fault("extra", route="/api/chat")
        assert (await ask(app)).complete
        assert (await ask(app)).complete
        assert sim.counters.connections == 2


async def test_the_exchange_tells_what_happened() -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        exchange = make_exchange(body=CHAT)
        answer = await call(app, exchange)
        assert (exchange.backend, exchange.attempts, exchange.tried) == ("b1", 1, ("b1",))
        assert exchange.committed
        assert exchange.terminated
        assert exchange.first_byte_at is not None
        assert exchange.usage is not None
        assert exchange.usage.tokens_out == sim.counters.tokens_generated
        assert len(answer.chunks) == sim.last.sent_chunks + 1


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), TimeoutError(), httpx.ReadError("x")])
@pytest.mark.parametrize("at", ["http.response.start", "http.response.body"])
async def test_an_error_of_who_wraps_send_is_not_the_backends(at: str, error: Exception) -> None:
    async with Ollama() as sim, dispatching(sim, total=30.0) as app:

        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            async def write(message: Message) -> None:
                if message["type"] == at:
                    raise error
                await send(message)

            await app(scope, receive, write)

        with pytest.raises(type(error)) as caught:
            await call(wrapped, make_exchange(body=CHAT))
        assert caught.value is error
        (backend,) = app._pool.backends
        assert backend.last_error is None
        assert (await ask(app)).complete


class FullDisk:
    """A plugin that keeps what goes out, and cannot."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def keep(message: Message) -> None:
            raise OSError(28, "No space left on device")

        await self.app(scope, receive, keep)


async def test_it_is_answered_as_a_bug_of_the_plugin() -> None:
    name = f"{__name__}:{FullDisk.__name__}"
    async with Ollama() as sim, running(sim.url, middleware=["logging", {"use": name}]) as proxy:
        assert (await wire.ask(proxy.address, "POST", "/api/chat", CHAT)).status == 500
        line = await proxy.log.request()
        assert (line["status"], line["error_code"]) == (500, "internal_error")
        assert [event["plugin"] for event in proxy.log.events if event["event"] == "plugin_failed"] == [name]
