"""proxy/relay/backend_answer.py, over real sockets to the simulator."""

from typing import Any

import pytest

from middleware.streaming import Streaming
from proxy.kernel.asgi import UNBUFFERED, ASGIApp, header_values
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


@pytest.mark.parametrize(
    ("path", "more", "values"),
    [
        ("/api/chat", b"", [b"no"]),
        ("/api/generate", b',"prompt":"hi"', [b"no"]),
        ("/api/pull", b"", [b"no"]),
        ("/v1/chat/completions", b',"stream":true', [b"no"]),
        ("/v1/messages", b',"stream":true,"max_tokens":9', [b"no"]),
        ("/v1/responses", b',"stream":true,"input":"hi"', [b"no"]),
        ("/api/chat", b',"stream":false', []),
        ("/v1/chat/completions", b"", []),
        ("/api/show", b"", []),
    ],
)
async def test_a_stream_and_nothing_else_says_that_nginx_must_not_collect_it(
    path: str, more: bytes, values: list[bytes]
) -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        answer = await ask(app, path=path, body=CHAT[:-1] + more + b"}")
        assert (answer.error, answer.status) == (None, 200)
        assert header_values(answer.headers, UNBUFFERED[0]) == values


@pytest.mark.parametrize("kind", [b"application/x-ndjson; charset=utf-8", b"text/event-stream", b"application/json"])
async def test_what_the_backend_says_of_buffering_itself_stays_as_it_is(kind: bytes) -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nX-Accel-Buffering: yes\r\n" % kind
        sim.script(head + b'Content-Length: 14\r\n\r\n{"done":true}\n', route="/api/chat")
        assert header_values((await ask(app)).headers, UNBUFFERED[0]) == [b"yes"]


async def test_a_stream_is_known_by_its_type_and_not_by_its_route() -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\n"
        sim.script(head + b"data: 1\n\n", route="/api/show")
        assert header_values((await ask(app, path="/api/show")).headers, UNBUFFERED[0]) == [b"no"]


async def test_an_error_in_lines_is_no_stream() -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        head = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-ndjson\r\n"
        sim.script(head + b'Content-Length: 14\r\n\r\n{"error":"no"}', route="/api/chat")
        answer = await ask(app)
        assert (answer.status, header_values(answer.headers, UNBUFFERED[0])) == (400, [])
