"""proxy/relay/backend_answer.py, over real sockets to the simulator."""

from typing import Any

import pytest

from middleware.streaming import Streaming
from proxy.kernel.asgi import ASGIApp
from proxy.kernel.errors import BadAnswer, ConnectFailed, Unterminated, UpstreamAnswer
from proxy.simulator import Ollama
from proxy.testing import Answer
from tests.support.dispatching import CHAT, ask, dispatching


async def test_error_answers_are_raised_whole_so_that_another_backend_may_be_tried() -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        sim.fault("busy", route="/api/chat")
        busy = (await ask(app)).error
        assert isinstance(busy, UpstreamAnswer)
        assert (busy.status, busy.busy, busy.missing) == (503, True, False)
        assert b"maximum pending requests exceeded" in busy.body
        missing = (await ask(app, body=b'{"model":"nope"}')).error
        assert isinstance(missing, UpstreamAnswer)
        assert (missing.status, missing.missing, missing.outcome) == (404, True, "completed")
        refused = await ask(app, body=b"{}")
        assert refused.error is None
        assert refused.status == 400


@pytest.mark.parametrize("kind", ["junk", "huge_head", "duplicate_length"])
async def test_what_is_no_http_is_502_and_its_connection_is_not_used_again(kind: Any) -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        sim.fault(kind, route="/api/chat")
        assert isinstance((await ask(app)).error, BadAnswer)
        assert (await ask(app)).status == 200
        assert sim.counters.connections == 2


EMBED = b'{"model":"nomic-embed-text","input":"hi"}'
V1 = CHAT[:-1] + b',"stream":true}'


async def answer_without_a_byte(sim: Ollama, app: ASGIApp, path: str, body: bytes, rule: Unterminated) -> Answer:
    sim.fault("end", route=path, after=0)
    return await ask(Streaming(app, unterminated=rule), path=path, body=body)


@pytest.mark.parametrize(
    ("path", "body", "rule"),
    [
        ("/api/embed", EMBED, "auto"),
        ("/api/embed", EMBED, "pass"),
        ("/api/chat", CHAT, "error"),
        ("/v1/chat/completions", V1, "error"),
    ],
)
async def test_an_answer_without_a_byte_is_none(path: str, body: bytes, rule: Unterminated) -> None:
    """It ends as HTTP says, so that a client would take it for whole; and before a first byte another may be asked."""
    async with Ollama() as sim, dispatching(sim) as app:
        answer = await answer_without_a_byte(sim, app, path, body, rule)
        assert isinstance(answer.error, BadAnswer)
        assert answer.status is None
        assert (await ask(app, path=path, body=body)).complete


@pytest.mark.parametrize("rule", ["auto", "pass"])
@pytest.mark.parametrize(("path", "body"), [("/api/chat", CHAT), ("/v1/chat/completions", V1)])
async def test_a_generation_may_be_empty(path: str, body: bytes, rule: Unterminated) -> None:
    """Ollama's guard against repetition ends one whose text is all held back."""
    async with Ollama() as sim, dispatching(sim) as app:
        answer = await answer_without_a_byte(sim, app, path, body, rule)
        assert (answer.status, answer.body, answer.complete) == (200, b"", True)


async def test_what_ends_only_with_its_connection_is_not_an_empty_answer() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
    async with Ollama() as sim, dispatching(sim) as app:
        sim.fault("script", route="/api/chat", parts=(head,))
        assert isinstance((await ask(app)).error, BadAnswer)


async def test_nobody_there() -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        await sim.stop()
        answer = await ask(app)
        assert isinstance(answer.error, ConnectFailed)
        assert answer.error.backend == "b1"
        assert not answer.error.sent
