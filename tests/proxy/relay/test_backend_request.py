"""proxy/relay/backend_request.py, over real sockets to the simulator."""

import asyncio

import orjson
import pytest

from proxy.kernel.asgi import Message, Receive, Scope, Send
from proxy.kernel.errors import ConnectionLost
from proxy.simulator import Ollama
from proxy.testing import call, make_exchange
from tests.support.dispatching import CHAT, ask, dispatching


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


@pytest.mark.parametrize("path", ["/api/pull", "/api/push", "/api/create", "/api/copy"])
async def test_what_must_not_be_repeated_gets_a_fresh_connection_and_is_sent_once(path: str) -> None:
    async with Ollama() as sim, dispatching(sim) as app:
        assert (await ask(app, "GET", "/api/version", b"")).complete
        sim.fault("reset", route=path)
        answer = await ask(app, "POST", path, b'{"model":"a","source":"a","destination":"b"}')
        assert isinstance(answer.error, ConnectionLost)
        assert len(sim.seen(path)) == 1
        assert sim.last.connection == 2


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
