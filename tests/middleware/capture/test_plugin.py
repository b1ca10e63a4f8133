"""Words are logged for those whose policy wants it, shortened and masked, and for nobody else."""

from typing import Any

import pytest

from middleware.capture.plugin import Capture
from proxy.kernel.asgi import Receive, Scope, Send
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.testing import ManualClock, call, make_exchange, ok, suppose
from tests.support.log_schema import check_line
from tests.support.logs import Lines

CHAT = b'{"model":"llama3.2","messages":[{"role":"user","content":"I am alice@example.com, key sk-abcdefghijklmnop"}]}'


def make(sink: Lines, app: Any = None, **options: Any) -> Capture:
    return Capture(app or answers, sink=sink, clock=ManualClock(0.0), **options)


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    await Exchange.of(scope).body()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for word in (b"Hello ", b"bob@example.com", b", how are you?"):
        await send({"type": "http.response.body", "body": b'{"message":{"content":"%s"}}\n' % word, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def chat(body: bytes = CHAT, path: str = "/api/chat") -> Exchange:
    exchange = make_exchange("POST", path, body=body)
    suppose(exchange, identity="alice", tenant="physics", policy="audited")
    return exchange


async def test_what_was_asked_and_answered() -> None:
    sink = Lines()
    answer = await call(make(sink, prompt=2048, answer=2048), chat())
    assert b"bob@example.com" in answer.body  # the caller gets what was said
    (event,) = sink.events
    check_line(sink.raw[0])
    del event["time"]
    assert event == {
        "level": "info",
        "event": "content",
        "schema": 1,
        "logger": "ollama_proxy.capture",
        "request_id": "test",
        "identity": "alice",
        "tenant": "physics",
        "policy": "audited",
        "model": "llama3.2:latest",
        "outcome": "completed",
        "prompt": "user: I am ***, key ***",
        "answer": "Hello ***, how are you?",
    }


@pytest.mark.parametrize(("options", "kept"), [({"prompt": 100}, "prompt"), ({"answer": 100}, "answer")])
async def test_one_without_the_other(options: dict[str, Any], kept: str) -> None:
    sink = Lines()
    await call(make(sink, **options), chat())
    assert {name for name in ("prompt", "answer") if sink.events[0][name] is not None} == {kept}


async def test_bounds() -> None:
    sink = Lines()
    await call(
        make(sink, prompt=5, answer=5, redact=frozenset()), chat(b'{"model":"m","messages":[],"prompt":"0123456789"}')
    )
    assert (sink.events[0]["prompt"], sink.events[0]["answer"]) == ("56789", "Hello")


async def test_shapes() -> None:
    sink = Lines()
    await call(make(sink, answer=100, redact=frozenset(), shapes=["h?w a?e"]), chat())
    assert sink.events[0]["answer"] == "Hello bob@example.com, *** you?"


async def test_off_unless_told() -> None:
    sink = Lines()
    seen: list[object] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(send)

    async def send(message: object) -> None: ...

    exchange = chat()
    await make(sink, inner)(exchange.scope, exchange.receive, send)
    assert seen == [send]
    assert not exchange.finishers()


async def test_the_prompt_alone_costs_no_chunk_anything() -> None:
    seen: list[object] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(send)

    async def send(message: object) -> None: ...

    exchange = chat()
    await make(Lines(), inner, prompt=100)(exchange.scope, exchange.receive, send)
    assert seen == [send]


@pytest.mark.parametrize("path", ["/api/show", "/api/pull", "/api/nothing", "/"])
async def test_only_inference(path: str) -> None:
    sink = Lines()
    await call(make(sink, ok, prompt=100, answer=100), chat(path=path))
    assert not sink.raw


async def test_what_was_refused_has_its_prompt_too_where_it_was_read() -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await Exchange.of(scope).body()
        raise Refused(403, "no")

    sink = Lines()
    await call(make(sink, refuse, prompt=100, answer=100), chat())
    (event,) = sink.events
    assert (event["outcome"], event["prompt"], event["answer"]) == ("refused", "user: I am ***, key ***", "")


async def test_a_body_that_was_never_read_is_not() -> None:
    sink = Lines()
    await call(make(sink, ok, prompt=100), chat())
    assert sink.events[0]["prompt"] == ""


async def test_other_formats() -> None:
    sink = Lines()
    await call(make(sink, prompt=100, format="ecs"), chat())
    assert sink.events[0]["event.action"] == "content"
    assert sink.events[0]["ollama_proxy.prompt"] == "user: I am ***, key ***"
