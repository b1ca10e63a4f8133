"""What the proxy answers in Ollama's place is what a real Ollama 0.32.15 answered to the same request."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from proxy.simulator import Ollama
from tests.support.proxy import running
from tests.support.wire import ask

UTF8 = "application/json; charset=utf-8"
BARE = "application/json"
WORDS: dict[str, Any] = {
    "messages": [{"role": "user", "content": "hi"}],
    "prompt": "hi",
    "input": "hi",
    "max_tokens": 5,
}


def openai(message: str, kind: str, end: str = "\n") -> str:
    return f'{{"error":{{"message":"{message}","type":"{kind}","param":null,"code":null}}}}{end}'


def anthropic(message: str, end: str = "\n") -> str:
    error = f'{{"type":"invalid_request_error","message":"{message}"}}'
    return f'{{"type":"error","error":{error},"request_id":"ID"}}{end}'


NOBODY = "model '' not found"
REQUIRED = "model is required"
INVALID = "invalid model name"
NAMELESS = [
    ("/api/generate", 404, UTF8, f'{{"error":"{NOBODY}"}}'),
    ("/api/chat", 400, UTF8, f'{{"error":"{REQUIRED}"}}'),
    ("/api/embed", 404, UTF8, f'{{"error":"{NOBODY}"}}'),
    ("/api/embeddings", 400, UTF8, f'{{"error":"{REQUIRED}"}}'),
    ("/v1/chat/completions", 400, BARE, openai(REQUIRED, "invalid_request_error")),
    ("/v1/completions", 404, BARE, openai(NOBODY, "not_found_error")),
    ("/v1/responses", 400, BARE, openai(REQUIRED, "invalid_request_error")),
    ("/v1/messages", 400, UTF8, anthropic(REQUIRED, "")),
    ("/api/show", 400, UTF8, f'{{"error":"{REQUIRED}"}}'),
    ("/api/pull", 400, UTF8, f'{{"error":"{INVALID}"}}'),
    ("/api/push", 400, UTF8, f'{{"error":"{REQUIRED}"}}'),
    ("/api/create", 400, UTF8, f'{{"error":"{INVALID}"}}'),
    ("/api/copy", 400, UTF8, '{"error":"source \\"\\" is invalid"}'),
]
MISNAMED = [
    *(
        (path, 400, UTF8, f'{{"error":"{INVALID}"}}')
        for path in ("/api/generate", "/api/chat", "/api/show", "/api/pull")
    ),
    *(
        (path, 400, BARE, openai(INVALID, "invalid_request_error"))
        for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses")
    ),
    ("/v1/messages", 400, BARE, anthropic(INVALID)),
]


def cases() -> Iterator[tuple[str, str, Any, int, str, str]]:
    for path, status, kind, body in NAMELESS:
        yield "POST", path, WORDS, status, kind, body
        yield "POST", path, {**WORDS, "model": ""}, status, kind, body
        yield "POST", path, {**WORDS, "model": None}, status, kind, body
    for path, status, kind, body in MISNAMED:
        yield "POST", path, {**WORDS, "model": "a b!"}, status, kind, body
    yield "DELETE", "/api/delete", {}, 400, UTF8, f'{{"error":"{REQUIRED}"}}'
    for path in ("/api/generate", "/api/chat", "/api/embed", "/api/show", "/api/pull"):
        yield "POST", path, b"", 400, UTF8, '{"error":"missing request body"}'
    yield "GET", "/api/nothing", None, 404, "text/plain", "404 page not found"
    yield "GET", "/v1/nothing", None, 404, "text/plain", "404 page not found"
    yield "GET", "/favicon.ico", None, 404, "text/plain", "404 page not found"
    for method in ("GET", "PUT", "OPTIONS"):
        yield method, "/api/chat", None, 405, "text/plain", "405 method not allowed"
    yield "POST", "/api/version", {}, 405, "text/plain", "405 method not allowed"


PERMITTED = {"access": {"routes": ["read", "inference", "manage", "account"]}}


@pytest.mark.parametrize(("method", "path", "sent", "status", "kind", "body"), [*cases()])
async def test_it_is_answered_as_ollama_answers(
    method: str, path: str, sent: Any, status: int, kind: str, body: str
) -> None:
    async with Ollama() as sim, running(sim.url, middleware=["logging", PERMITTED]) as proxy:
        reply = await ask(proxy.address, method, path, sent)
        assert not sim.requests
        wanted = body.replace("ID", reply.headers["x-request-id"])
        assert (reply.status, reply.headers["content-type"], reply.body.decode()) == (status, kind, wanted)
        assert reply.headers["content-length"] == str(len(wanted))
        assert "x-error-code" in reply.headers
        assert (await proxy.log.request())["error_code"] == reply.headers["x-error-code"]


@pytest.mark.parametrize(("path", "allow"), [("/api/version", "HEAD, GET"), ("/api/chat", "POST"), ("/api/ps", "GET")])
async def test_the_methods_stand_in_ollamas_order(path: str, allow: str) -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        assert (await ask(proxy.address, "PUT", path)).headers["allow"] == allow


SHAPES = {
    "/api/chat": ["error"],
    "/v1/chat/completions": ["error", "message", "type", "param", "code"],
    "/v1/responses": ["error", "message", "type", "param", "code"],
    "/v1/messages": ["type", "error", "type", "message", "request_id"],
}


def keys(document: Any) -> Iterator[str]:
    for key, value in document.items():
        yield key
        if isinstance(value, dict):
            yield from keys(value)


@pytest.mark.parametrize("path", SHAPES)
@pytest.mark.parametrize(
    "sent", [b'{"model": "tiny", ', b"[]", b'"x"', b'{"model": 5}', b'{"model":"a","model":"b"}', b'{"Model":"a"}']
)
async def test_what_cannot_be_read_is_refused_in_ollamas_shape(path: str, sent: bytes) -> None:
    """The sentence is the proxy's own, which says where the mistake is."""
    async with Ollama() as sim, running(sim.url, middleware=["logging", PERMITTED]) as proxy:
        reply = await ask(proxy.address, "POST", path, sent)
        found = orjson.loads(reply.body)
        assert (reply.status, reply.headers["content-type"], list(keys(found))) == (400, UTF8, SHAPES[path])
        assert not reply.body.endswith(b"\n")
        assert path == "/api/chat" or found["error"]["type"] == "invalid_request_error"
        assert found["error"].get("code") is None if isinstance(found["error"], dict) else True
        assert reply.headers["x-error-code"] == "invalid_request"
