"""proxy/relay/dispatch.py, over real sockets to the simulator, without plugins."""

import pytest

from proxy.kernel.errors import Refused
from proxy.simulator import Ollama
from tests.support.dispatching import ask, dispatching


async def test_a_request_that_comes_back_is_a_loop() -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        answer = await ask(app, headers=[("via", "1.1 edge, 1.1 op-test")])
        assert isinstance(answer.error, Refused)
        assert answer.error.status == 508
        assert sim.counters.requests == 0


@pytest.mark.parametrize("reset", [True, False])
async def test_a_connection_closed_under_us_is_replaced_unnoticed(reset: bool) -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        assert (await ask(app)).complete
        sim.fault("reset" if reset else "close", route="/api/chat", when=lambda seen: seen.connection == 1)
        answer = await ask(app)
        assert answer.error is None
        assert answer.complete
        assert [seen.connection for seen in sim.seen("/api/chat")] == [1, 1, 2]
