"""proxy/relay/answer_stream.py, over real sockets to the simulator."""

from proxy.simulator import Ollama
from proxy.testing import call, make_exchange
from tests.support.dispatching import CHAT, ask, dispatching


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
