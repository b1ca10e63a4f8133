"""`streaming`, which only says how answers are passed on; tests/proxy/relay and tests/live show that they are."""

import json
from typing import Any, Literal

import pytest

from middleware.streaming import Streaming
from proxy.kernel.asgi import UNBUFFERED, Header, Receive, Scope, Send
from proxy.kernel.errors import Unterminated
from proxy.kernel.explain import Verdict
from proxy.testing import call, make_exchange, ok, suppose
from tests.support.asgi import assert_not_wrapped, hands_send_on


async def test_it_hands_requests_on_as_they_came() -> None:
    answer = await call(Streaming(ok), make_exchange())
    assert (answer.status, answer.body) == (200, b"ok")
    await assert_not_wrapped(Streaming)


@pytest.mark.parametrize("rule", ["auto", "pass", "error"])
async def test_it_writes_its_rule_to_the_exchange(rule: Unterminated) -> None:
    exchange = make_exchange()
    await call(Streaming(ok, unterminated=rule), exchange)
    assert exchange.unterminated == rule


async def test_without_options_it_is_what_holds_without_it() -> None:
    exchange, other = make_exchange(), make_exchange()
    await call(Streaming(ok), exchange)
    assert exchange.unterminated == other.unterminated == "auto"


async def test_what_is_no_request_passes() -> None:
    seen: list[str] = []

    async def inner(scope: dict[str, str], receive: object, send: object) -> None:
        seen.append(scope["type"])

    await Streaming(inner)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]


@pytest.mark.parametrize(
    ("path", "verdict", "rule"),
    [("/api/chat", "pass", "error"), ("/api/embed", "skip", "auto"), ("/api/pull", "skip", "auto")],
)
async def test_explaining(path: str, verdict: Verdict, rule: Unterminated) -> None:
    exchange = make_exchange("POST", path)
    explanation = await Streaming(ok, unterminated="error").explain(exchange)
    assert (explanation.verdict, exchange.unterminated) == (verdict, rule)


CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("path", "body", "added"),
    [
        (CHAT, {"stream": True}, True),
        ("/v1/completions", {"stream": True, "stream_options": {"include_usage": False}}, True),
        (CHAT, {"stream": True, "stream_options": {"include_usage": True}}, False),
        (CHAT, {"stream": True, "stream_options": {"INCLUDE_USAGE": False}}, False),
        (CHAT, {"stream": True, "stream_options": []}, False),
        (CHAT, {"stream": False}, False),
        (CHAT, {}, False),
        ("/api/chat", {"stream": True}, False),
        ("/v1/responses", {"stream": True}, False),
    ],
)
async def test_it_asks_for_counts_that_no_one_asked_for(path: str, body: dict[str, Any], added: bool) -> None:
    sent = json.dumps({"model": "m", **body}).encode()
    words: list[Literal["add", "keep"]] = ["add", "keep"]
    for word in words:
        seen: list[bytes] = []

        async def inner(scope: Scope, receive: Receive, send: Send, seen: list[bytes] = seen) -> None:
            seen.append((await receive())["body"])
            await ok(scope, receive, send)

        exchange = make_exchange("POST", path, body=sent)
        await call(Streaming(inner, include_usage=word), exchange)
        asks = added and word == "add"
        assert exchange.usage_added is asks
        assert (seen != [sent]) is asks
        explanation = await Streaming(ok, include_usage=word).explain(make_exchange("POST", path, body=sent))
        assert (explanation.verdict == "change", "token counts" in explanation.text) == (asks, asks)


EVENTS = [(b"content-type", b"text/event-stream"), (b"x-content-type-options", b"nosniff"), UNBUFFERED]


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        (CHAT, b'{"model":"m","stream":true}', EVENTS),
        ("/v1/completions", b'{"model":"m","stream":true}', EVENTS),
        ("/v1/messages", b'{"model":"m","stream":true}', [*EVENTS, (b"cache-control", b"no-cache")]),
        ("/v1/responses", b'{"model":"m","stream":true}', [*EVENTS, (b"cache-control", b"no-cache")]),
        (CHAT, b'{"model":"m","stream":false}', None),
        (CHAT, b'{"model":"m"}', None),
        (CHAT, b'{"model":"m","stream":true,"stream":true}', None),
        (CHAT, b"no JSON", None),
        ("/api/chat", b'{"model":"m","stream":true}', None),
        ("/v1/embeddings", b'{"model":"m","stream":true}', None),
        ("/v1/unknown", b'{"model":"m","stream":true}', None),
    ],
)
async def test_it_wants_heartbeats_where_a_client_asked_for_events(
    path: str, body: bytes, headers: list[Header] | None
) -> None:
    wanted: list[tuple[float, list[Header]]] = []

    def beat(send: Send, every: float, headers: list[Header]) -> None:
        wanted.append((every, headers))

    for heartbeat in (15.0, None):
        wanted.clear()
        await call(Streaming(ok, heartbeat=heartbeat), suppose(make_exchange("POST", path, body=body), beat=beat))
        assert wanted == ([] if headers is None or heartbeat is None else [(15.0, headers)])
        if path != "/v1/unknown":
            explanation = await Streaming(ok, heartbeat=heartbeat).explain(make_exchange("POST", path, body=body))
            assert ("a heartbeat every 15s" in explanation.text) is bool(wanted)


async def test_nothing_is_wrapped_for_a_heartbeat() -> None:
    exchange = make_exchange("POST", CHAT, body=b'{"model":"m","stream":true}')
    assert await hands_send_on(lambda app: Streaming(app, heartbeat=15.0), exchange)
