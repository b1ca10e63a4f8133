"""The code of an error: in its body, in x-error-code and in the log, and on no answer of a backend."""

from typing import Any

import orjson
import pytest

from proxy.kernel.error_codes import TABLE
from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.proxy import Running, running
from tests.support.raw import Raw
from tests.support.wire import Reply, ask

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}


def code_of(reply: Reply) -> str | None:
    """Return what the header says, which the table must have."""
    found = reply.headers.get("x-error-code")
    assert found is None or found in TABLE
    return found


async def line_of(proxy: Running) -> dict[str, Any]:
    return await proxy.log.request(len(proxy.log.requests) or 1)


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/api/chat", ("code",)),
        ("/v1/chat/completions", ("error", "code")),
        ("/v1/responses", ("error", "code")),
        ("/v1/messages", ("error", "code")),
    ],
)
async def test_each_api_has_the_code_in_body_header_and_log(path: str, where: tuple[str, ...]) -> None:
    async with Ollama() as sim, running(sim.url, middleware=["logging", {"access": {"models": ["other"]}}]) as proxy:
        reply = await ask(proxy.address, "POST", path, {**CHAT, "input": "hi", "max_tokens": 1})
        found = orjson.loads(reply.body)
        for member in where:
            found = found[member]
        assert (reply.status, code_of(reply), found) == (403, "model_not_allowed", "model_not_allowed")
        assert (await line_of(proxy))["error_code"] == "model_not_allowed"


@pytest.mark.parametrize(
    ("path", "where"),
    [("/api/chat", ("code",)), ("/v1/chat/completions", ("error", "code")), ("/v1/messages", ("error", "code"))],
)
async def test_an_error_within_a_stream_has_the_code(path: str, where: tuple[str, ...]) -> None:
    timeouts = {"idle": "100ms"}
    async with Ollama() as sim, running(sim.url, pool={"timeouts": timeouts}) as proxy:
        sim.fault("stall", route=path, after=2)
        reply = await ask(proxy.address, "POST", path, {**CHAT, "stream": True, "max_tokens": 5})
        found = orjson.loads(reply.body.rstrip().rpartition(b"\n")[2].removeprefix(b"data: "))
        for member in where:
            found = found[member]
        assert (reply.status, reply.clean, found, code_of(reply)) == (200, False, "idle_timeout", None)
        assert b"for 0.1 s (timer idle)" in reply.body
        assert (await line_of(proxy))["error_code"] == "idle_timeout"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("DELETE", "/api/chat", 405, "method_not_allowed"),
        ("GET", "/api/tags/", 301, "moved"),
        ("GET", "/-", 307, "moved"),
        ("GET", "/-/assets/none.js", 404, "not_found"),
        ("POST", "/-/cancel/none", 404, "unknown_request"),
        ("POST", "/-/drain/none", 404, "unknown_backend"),
        ("POST", "/-/unload/b1", 400, "invalid_request"),
        ("POST", "/-/reload", 409, "no_file"),
    ],
)
async def test_answers_without_a_backend_have_the_code(method: str, path: str, status: int, code: str) -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        reply = await ask(proxy.address, method, path)
        assert (reply.status, code_of(reply)) == (status, code)
        line = await line_of(proxy)
        assert (line["status"], line["error_code"]) == (status, code)


async def test_an_answer_that_says_no_by_its_status_alone_has_the_code() -> None:
    async with Ollama() as sim, running(sim.url, watched=True) as proxy:
        await eventually(lambda: proxy.app.pool.first_round.over)
        ready = await ask(proxy.address, "GET", "/-/readyz")
        assert (ready.status, code_of(ready)) == (200, None)
        proxy.app.pool.backends[0].health.draining = True
        sick = await ask(proxy.address, "GET", "/-/readyz")
        assert (sick.status, code_of(sick)) == (503, "not_ready")
        assert orjson.loads(sick.body)["ready"] is False
        line = await proxy.log.request(2)
        assert (line["outcome"], line["error_code"]) == ("completed", "not_ready")


async def test_a_pull_on_all_that_failed_has_the_code() -> None:
    async with Ollama() as one, Ollama() as other, running(one.url, other.url) as proxy:
        other.fault("close", route="/api/pull", times=None)
        asked = {"model": "llama3.2", "stream": False}
        reply = await ask(proxy.address, "POST", "/api/pull", asked, {"x-ollama-backend": "all"})
        assert (reply.status, code_of(reply), orjson.loads(reply.body)["code"]) == (500, "pull_failed", "pull_failed")
        assert (await line_of(proxy))["error_code"] == "pull_failed"
        streamed = await ask(proxy.address, "POST", "/api/pull", {"model": "llama3.2"}, {"x-ollama-backend": "all"})
        assert orjson.loads(streamed.body.rstrip().rpartition(b"\n")[2])["code"] == "pull_failed"
        assert (streamed.status, code_of(streamed)) == (200, None)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GARBAGE\r\n\r\n", "malformed_request"),
        (b"GET /api/tags HTTP/1.1\r\n\r\n", "bad_host"),
        (b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n", "method_not_allowed"),
        (b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", "malformed_request"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: %b\r\n\r\n" % (b"x" * 70_000), "head_too_large"),
    ],
)
async def test_what_no_application_sees_is_answered_with_the_code(data: bytes, code: str) -> None:
    async with Ollama() as sim, running(sim.url) as proxy, await Raw.open(proxy.server.addresses[0]) as client:
        await client.send(data)
        response = await client.response()
        assert response.header(b"x-error-code") == code.encode()
        event = next(event for event in proxy.log.events if event["event"] == "request_refused")
        assert (event["reason"], event["error_code"]) == (code, code)


@pytest.mark.parametrize("settings", [{"head": {"deadline": "100ms"}}])
async def test_a_late_client_is_told_the_timer(settings: dict[str, Any]) -> None:
    async with Ollama() as sim, running(sim.url, server=settings) as proxy:
        async with await Raw.open(proxy.server.addresses[0]) as client:
            await client.send(b"GET / HTTP/1.1\r\n")
            response = await client.response()
            assert (response.status, response.header(b"x-error-code")) == (408, b"head_timeout")
            assert response.body == b"the request head did not arrive within 0.1 s (timer head)"


async def test_no_answer_of_a_backend_has_a_code() -> None:
    """Nor has it one that it gives itself: the header says that this proxy made the error."""
    async with Ollama() as sim, running(sim.url) as proxy:
        sim.script(
            b"HTTP/1.1 400 Bad Request\r\nX-Error-Code: bad_host\r\nContent-Type: application/json\r\n",
            b"Content-Length: 13\r\n\r\n",
            b'{"error":"x"}',
        )
        reply = await ask(proxy.address, "POST", "/api/chat", CHAT)
        assert (reply.status, reply.body, code_of(reply)) == (400, b'{"error":"x"}', None)
        assert (await line_of(proxy))["error_code"] is None
        missing = await ask(proxy.address, "POST", "/api/show", {"model": "none"})
        assert (missing.status, code_of(missing)) == (404, None)
        assert "code" not in orjson.loads(missing.body)


async def test_a_page_may_read_the_code() -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        reply = await ask(proxy.address, "GET", "/nothing", None, {"origin": "http://localhost:3000"})
        exposed = reply.headers["access-control-expose-headers"].split(", ")
        assert (reply.status, code_of(reply)) == (404, "not_found")
        assert "x-error-code" in exposed
