"""From the commit point on nobody needs what a request's body said: it need not stay while the answer streams."""

from typing import Any

import pytest

from proxy.kernel.exchange import Exchange
from proxy.simulator import Ollama
from tests.support.proxy import running
from tests.support.wire import ask

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "why"}], "stream": False}
LONG = {**CHAT, "messages": [{"role": "user", "content": "words " * 20_000}]}
EVERYTHING = [
    "logging",
    "metrics",
    {"capture": {"prompt": "1KiB", "answer": "1KiB"}},
    {"access": {"models": ["*"]}},
    {"parameters": {"num_ctx": {"max": 4096}, "aliases": {"gpt-4o": "llama3.2"}}},
    {"rate_limit": {"tokens": "1000000/hour", "by": ["address", "model"]}},
    "queue",
    {"retry": {"fallback": {"mistral": ["llama3.2"]}, "hedge": {"after": "10s"}}},
]
"""All that reads bodies, or tells afterwards what was asked."""
READERS = ("document", "json", "names", "body", "edit")


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of a request's body behind its commit point."""
    found: list[str] = []
    for name in READERS:
        before = getattr(Exchange, name)

        def read(exchange: Exchange, *args: Any, name: str = name, before: Any = before) -> Any:
            if exchange.committed:
                found.append(name)
            return before.__get__(exchange) if isinstance(before, property) else before(exchange, *args)

        monkeypatch.setattr(Exchange, name, property(read) if isinstance(before, property) else read)
    return found


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/api/chat", CHAT),
        ("/api/chat", {**CHAT, "stream": True}),
        ("/api/chat", {**LONG, "model": "gpt-4o"}),
        ("/api/chat", {**CHAT, "model": "mistral"}),
        ("/api/embed", {"model": "nomic-embed-text", "input": "why"}),
        ("/v1/chat/completions", {**LONG, "stream": True}),
        ("/v1/messages", {**CHAT, "max_tokens": 5}),
    ],
)
async def test_nobody_needs_the_body_of_a_request_that_is_answered(
    late: list[str], path: str, document: dict[str, Any]
) -> None:
    async with Ollama() as sim, running(sim.url, sim.url, middleware=EVERYTHING) as proxy:
        answer = await ask(proxy.address, "POST", path, document)
        assert answer.clean
        line = await proxy.log.request()
        (content,) = [event for event in proxy.log.events if event["event"] == "content"]
        metrics, _ = await proxy.app.metrics.exposition()
    assert not late
    assert (line["outcome"], line["model"]) == ("completed", content["model"])
    assert line["model"] is not None
    assert content["prompt"].endswith("words " if "words" in str(document) else "why")
    streamed = bool(document.get("stream", path == "/api/chat")) and path != "/api/embed"
    timed = b"gen_ai_server_time_to_first_token_seconds_count{" in metrics
    assert timed is (streamed and line["chunks"] > 1)


async def test_nothing_of_it_is_kept_while_the_answer_streams() -> None:
    async with Ollama() as sim, running(sim.url, middleware=EVERYTHING) as proxy:
        kept: list[object] = []
        release = Exchange.release_body

        def release_body(exchange: Exchange) -> None:
            release(exchange)
            kept.extend([exchange.document, exchange._body._contents.text])

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Exchange, "release_body", release_body)
            assert (await ask(proxy.address, "POST", "/api/chat", {**LONG, "stream": True})).clean
    assert kept == [None, b""]
