"""proxy/relay/dispatch.py, over real sockets to the simulator, without plugins."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from proxy.kernel.asgi import ASGIApp, Message, Receive, Scope, Send
from proxy.kernel.errors import BadAnswer, ConnectFailed, ConnectionLost, NotRouted, Refused, UpstreamAnswer
from proxy.pool.backend import make_backend
from proxy.pool.pool import Pool, PoolOptions, Timeouts
from proxy.relay.dispatch import Dispatch
from proxy.simulator import Ollama
from proxy.testing import Answer, call, make_exchange

CHAT = b'{"model":"llama3.2","messages":[{"role":"user","content":"hi"}]}'


@asynccontextmanager
async def dispatching(*sims: Ollama, **timeouts: float) -> AsyncIterator[Dispatch]:
    pool = Pool(
        [make_backend(f"b{n}", sim.url) for n, sim in enumerate(sims, 1)], PoolOptions(timeouts=Timeouts(**timeouts))
    )
    try:
        yield Dispatch(pool, pool.timeouts, pseudonym="op-test")
    finally:
        await pool.aclose()


async def ask(app: ASGIApp, method: str = "POST", path: str = "/api/chat", body: bytes = CHAT, **more: Any) -> Answer:
    return await call(app, make_exchange(method, path, body=body, **more))


@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        ("POST", "/api/chat", b"/api/chat"),
        ("GET", "/v1/models/llama3.2:latest", b"/v1/models/llama3.2:latest"),
        ("GET", "/v1/models/a b", b"/v1/models/a%20b"),
        ("GET", "/v1/models/x?y#z", b"/v1/models/x%3Fy%23z"),
        ("HEAD", "/api/blobs/sha256:00", b"/api/blobs/sha256:00"),
    ],
)
async def test_the_target_is_written_from_the_table(method: str, path: str, target: bytes) -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        await ask(app, method, path, CHAT if method == "POST" else b"", query=b"poison=%0d%0a")
        assert sim.last.target == target


@pytest.mark.parametrize(
    ("method", "path", "status", "headers"),
    [
        ("POST", "/api/nope", 404, {}),
        ("POST", "//api/chat", 404, {}),
        ("POST", "/api/./chat", 404, {}),
        ("POST", "/API/chat", 404, {}),
        ("POST", "/api/chat;x", 404, {}),
        ("POST", "/api\\chat", 404, {}),
        ("POST", "/api/chat\0", 404, {}),
        ("GET", "/v1/models/..", 404, {}),
        ("GET", "/v1/models/a/b", 404, {}),
        ("GET", "/api/chat", 405, {"allow": "POST"}),
        ("post", "/api/chat", 405, {"allow": "POST"}),
        ("POST", "/api/tags", 405, {"allow": "GET, HEAD"}),
        ("POST", "/api/chat/", 307, {"location": "../chat"}),
        ("GET", "/api/tags/", 301, {"location": "../tags"}),
    ],
)
async def test_what_is_no_route_never_reaches_a_backend(
    method: str, path: str, status: int, headers: dict[str, str]
) -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        answer = await ask(app, method, path)
        assert isinstance(answer.error, NotRouted)
        assert answer.error.status == status
        assert answer.error.headers == headers
        assert sim.counters.requests == 0


async def test_a_request_that_comes_back_is_a_loop() -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        answer = await ask(app, headers=[("via", "1.1 edge, 1.1 op-test")])
        assert isinstance(answer.error, Refused)
        assert answer.error.status == 508
        assert sim.counters.requests == 0


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


async def test_redirects_are_passed_on_not_followed() -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        sim.fault("redirect", route="/api/chat", status=307, location="http://elsewhere/")
        answer = await ask(app)
        assert (answer.status, answer.header("location")) == (307, "http://elsewhere/")
        assert sim.counters.requests == 1


@pytest.mark.parametrize("kind", ["junk", "huge_head", "duplicate_length"])
async def test_what_is_no_http_is_502_and_its_connection_is_not_used_again(kind: Any) -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        sim.fault(kind, route="/api/chat")
        assert isinstance((await ask(app)).error, BadAnswer)
        assert (await ask(app)).status == 200
        assert sim.counters.connections == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", CHAT),
        ("/api/embed", b'{"model":"nomic-embed-text","input":"hi"}'),
        ("/v1/chat/completions", CHAT[:-1] + b',"stream":true}'),
    ],
)
async def test_an_answer_without_a_byte_is_none(path: str, body: bytes) -> None:
    """It ends as HTTP says, so that a client would take it for whole; and before a first byte another may be asked."""
    async with Ollama() as sim, dispatching(sim) as app:
        sim.fault("end", route=path, after=0)
        answer = await ask(app, path=path, body=body)
        assert isinstance(answer.error, BadAnswer)
        assert answer.status is None
        assert (await ask(app, path=path, body=body)).complete


async def test_bytes_behind_an_answer_end_the_connection() -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        sim.fault("extra", route="/api/chat")
        assert (await ask(app)).complete
        assert (await ask(app)).complete
        assert sim.counters.connections == 2


@pytest.mark.parametrize("reset", [True, False])
async def test_a_connection_closed_under_us_is_replaced_unnoticed(reset: bool) -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        assert (await ask(app)).complete
        sim.fault("reset" if reset else "close", route="/api/chat", when=lambda seen: seen.connection == 1)
        answer = await ask(app)
        assert answer.error is None
        assert answer.complete
        assert [seen.connection for seen in sim.seen("/api/chat")] == [1, 1, 2]


@pytest.mark.parametrize("path", ["/api/pull", "/api/push", "/api/create", "/api/copy"])
async def test_what_must_not_be_repeated_gets_a_fresh_connection_and_is_sent_once(path: str) -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        assert (await ask(app, "GET", "/api/version", b"")).complete
        sim.fault("reset", route=path)
        answer = await ask(app, "POST", path, b'{"model":"a","source":"a","destination":"b"}')
        assert isinstance(answer.error, ConnectionLost)
        assert len(sim.seen(path)) == 1
        assert sim.last.connection == 2


async def test_nobody_there() -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        await sim.stop()
        answer = await ask(app)
        assert isinstance(answer.error, ConnectFailed)
        assert answer.error.backend == "b1"
        assert not answer.error.sent


async def test_blobs_stream_through_with_their_own_framing() -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        digest = "/api/blobs/sha256:" + "0" * 64
        chunked = make_exchange("POST", digest, body=[b"abc", b"def"], headers=[("transfer-encoding", "chunked")])
        answer = await call(app, chunked)
        assert sim.last.body_bytes == 6
        assert sim.last.header("transfer-encoding") == b"chunked"
        assert answer.status is not None


async def test_an_early_answer_to_an_upload_is_passed_on() -> None:
    async with Ollama(early_blobs=True) as sim, dispatching(sim) as app:
        digest = "/api/blobs/sha256:" + "0" * 64
        exchange = make_exchange("POST", digest, body=[b"x"], headers=[("content-length", "1000000")])
        first = await exchange.receive()
        waits = asyncio.Event()

        async def receive() -> Message:
            if not waits.is_set():
                waits.set()
                return {**first, "more_body": True}
            await asyncio.Event().wait()
            raise AssertionError

        async def upload(scope: Scope, _: Receive, send: Send) -> None:
            await app(scope, receive, send)

        async with asyncio.timeout(5):
            answer = await call(upload, exchange)
        assert answer.status is not None
        assert answer.status < 300


async def test_a_middleware_above_may_rewrite_the_body() -> None:
    async with Ollama() as sim, dispatching(sim) as app:

        async def rewriting(scope: Scope, receive: Receive, send: Send) -> None:
            async def rewritten() -> Message:
                message = await receive()
                return {**message, "body": message["body"].replace(b"llama3.2", b"qwen3")}

            await app(scope, rewritten, send)

        assert (await ask(rewriting)).status == 200
        assert orjson.loads(sim.last.body)["model"] == "qwen3"


async def test_the_exchange_tells_what_happened() -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        exchange = make_exchange(body=CHAT)
        answer = await call(app, exchange)
        assert (exchange.backend, exchange.attempts, exchange.tried) == ("b1", 1, ["b1"])
        assert exchange.committed
        assert exchange.terminated
        assert exchange.first_byte_at is not None
        assert exchange.usage is not None
        assert exchange.usage.tokens_out == sim.counters.tokens_generated
        assert len(answer.chunks) == sim.last.sent_chunks + 1
