"""Answers that end cleanly without their terminator: whose they are, and what a policy makes of them."""

import json
from collections.abc import Sequence
from typing import Any

import ollama
import pytest

from proxy.simulator import Ollama
from tests.support.metrics import Numbers
from tests.support.pieces import APIS, Api, ask_for, chunked
from tests.support.proxy import Running, running
from tests.support.wire import Reply, ask

LOOP = ["x", *["a", " a", "a\n"] * 10, "a"]
OTHER = ["x", *["a", " a", "a\n"] * 10]
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"


def rule(word: str) -> list[Any]:
    return ["logging", "metrics", "retry", {"streaming": {"unterminated": word}}]


def stream_of(api: Api, texts: Sequence[str], *, clean: bool = True) -> tuple[bytes, ...]:
    return chunked(api.layout, map(api.write, texts), clean=clean)


async def get(sim: Ollama, proxy: Running, parts: tuple[bytes, ...], path: str, **body: Any) -> Reply:
    """Return the answer through the proxy where the backend's is `parts`."""
    sim.fault("script", route=path, parts=parts, finish="keep")
    return await ask(proxy.address, "POST", path, ask_for(path, **body))


async def told(proxy: Running) -> tuple[str, bool | None, str]:
    line = proxy.log.requests[-1] if proxy.log.requests else await proxy.log.request()
    return line["outcome"], line["terminated"], line["level"]


def counted(proxy: Running) -> float:
    return Numbers(proxy.app.metrics.now())("ollama_proxy_unterminated_total", backend="b1") or 0


def states(proxy: Running) -> list[tuple[str, str | None]]:
    return [(backend.health.state, backend.last_error) for backend in proxy.app.pool.backends]


@pytest.mark.parametrize("name", APIS)
async def test_what_the_guard_ended_ends_cleanly_as_it_came(name: str) -> None:
    api = APIS[name]
    async with Ollama() as sim, running(sim.url, middleware=["logging", "metrics", "retry"]) as proxy:
        reply = await get(sim, proxy, stream_of(api, LOOP), api.path)
        assert (reply.status, reply.clean) == (200, True)
        assert reply.chunks == list(map(api.write, LOOP))
        assert await told(proxy) == ("completed", False, "info")
        assert proxy.log.requests[-1]["tokens_source"] == "estimated"
        assert states(proxy) == [("up", None)]
        assert counted(proxy) == 1


@pytest.mark.parametrize("name", [name for name, api in APIS.items() if not api.thinks])
@pytest.mark.parametrize(
    ("word", "texts", "clean", "passes"),
    [
        ("auto", OTHER, True, False),  # a runner that was shut down in order
        ("pass", OTHER, True, True),
        ("pass", OTHER, False, False),
        ("auto", LOOP, False, False),
        ("error", LOOP, True, False),
    ],
)
async def test_what_the_policy_makes_of_an_end(
    name: str, word: str, texts: list[str], clean: bool, passes: bool
) -> None:
    api = APIS[name]
    async with Ollama() as sim, running(sim.url, middleware=rule(word)) as proxy:
        sim.fault(
            "script", route=api.path, parts=stream_of(api, texts, clean=clean), finish="keep" if clean else "close"
        )
        reply = await ask(proxy.address, "POST", api.path, ask_for(api.path))
        assert reply.clean == passes
        assert reply.chunks[: len(texts)] == list(map(api.write, texts))
        assert (b"error" in b"".join(reply.chunks[len(texts) :])) != passes
        outcome = "completed" if passes else "upstream_truncated"
        assert await told(proxy) == (outcome, False, "info" if passes else "error")
        assert counted(proxy) == passes


@pytest.mark.parametrize("name", APIS)
async def test_where_the_guard_cannot_be_seen_the_answer_passes(name: str) -> None:
    """A tool parser may hold the repeated text back, and blank text behind thoughts is dropped."""
    api = APIS[name]
    async with Ollama() as sim, running(sim.url) as proxy:
        tools = [] if api.thinks else [{"type": "function", "function": {"name": "f", "parameters": {}}}]
        assert (await get(sim, proxy, stream_of(api, ["x", "y"]), api.path, tools=tools)).clean
        assert await told(proxy) == ("completed", False, "info")


async def test_half_a_record_is_no_end_of_the_guard() -> None:
    api = APIS["chat"]
    parts = chunked("ndjson", [*map(api.write, LOOP), b'{"model":'])
    async with Ollama() as sim, running(sim.url) as proxy:
        reply = await get(sim, proxy, parts, api.path, tools=[{"type": "function"}])
        assert not reply.clean
        assert await told(proxy) == ("upstream_truncated", False, "error")


async def test_an_end_that_is_only_that_of_its_connection_is_not_clean() -> None:
    api = APIS["chat"]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
    async with Ollama() as sim, running(sim.url, middleware=rule("pass")) as proxy:
        sim.fault("script", route=api.path, parts=(head, *map(api.write, LOOP)))
        assert not (await ask(proxy.address, "POST", api.path, ask_for(api.path))).clean
        assert await told(proxy) == ("upstream_truncated", False, "error")


@pytest.mark.parametrize("word", ["auto", "pass"])
@pytest.mark.parametrize("path", ["/api/pull", "/api/push", "/api/create"])
async def test_progress_without_success_is_a_cut(path: str, word: str) -> None:
    parts = chunked("ndjson", [b'{"status":"working"}\n'] * 40)
    async with Ollama() as sim, running(sim.url, middleware=rule(word)) as proxy:
        assert not (await get(sim, proxy, parts, path)).clean
        assert await told(proxy) == ("upstream_truncated", False, "error")


EMPTY = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: 0\r\n\r\n",),
    "chunked": chunked("ndjson", []),
}


@pytest.mark.parametrize("framing", EMPTY)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", sorted({api.path for api in APIS.values()}))
async def test_an_empty_200_passes_as_it_came(path: str, stream: bool, framing: str) -> None:
    async with Ollama() as sim, running(sim.url, middleware=["logging", "metrics", "retry"]) as proxy:
        reply = await get(sim, proxy, EMPTY[framing], path, stream=stream)
        assert (reply.status, reply.body, reply.clean) == (200, b"", True)
        assert await told(proxy) == ("completed", False, "info")
        assert proxy.log.requests[-1]["attempts"] == 1
        assert counted(proxy) == 1


UNFINISHED: dict[str, dict[str, Any]] = {
    "/api/generate": {"model": "tiny", "response": "aaa", "done": False},
    "/api/chat": {"model": "tiny", "message": {"role": "assistant", "content": "aaa"}, "done": False},
    "/v1/chat/completions": {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"content": "aaa"}, "finish_reason": None}],
    },
    "/v1/completions": {"object": "text_completion", "choices": [{"index": 0, "text": "aaa", "finish_reason": None}]},
    "/v1/messages": {"type": "message", "content": [{"type": "text", "text": "aaa"}], "stop_reason": None},
}


@pytest.mark.parametrize("path", UNFINISHED)
@pytest.mark.parametrize("word", ["auto", "pass", "error"])
async def test_an_answer_that_says_it_is_not_done(path: str, word: str) -> None:
    body = json.dumps(UNFINISHED[path]).encode()
    parts = (PLAIN % (b"application/json", len(body), body),)
    async with Ollama() as sim, running(sim.url, middleware=rule(word)) as proxy:
        reply = await get(sim, proxy, parts, path, stream=False)
        if word == "error":
            assert not reply.clean
            assert await told(proxy) == ("upstream_truncated", False, "error")
        else:
            assert (reply.status, reply.body, reply.clean) == (200, body, True)
            assert await told(proxy) == ("completed", False, "info")
            assert counted(proxy) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_other_answers_lack_nothing(stream: bool) -> None:
    async with Ollama() as sim, running(sim.url) as proxy:
        for path in sorted({api.path for api in APIS.values()}):
            assert (await ask(proxy.address, "POST", path, ask_for(path, stream=stream))).clean
        await ask(proxy.address, "GET", "/api/tags")
        lines = [await proxy.log.request(number) for number in range(1, 8)]
        assert [line["terminated"] for line in lines] == [True if stream else None] * 6 + [None]


async def test_no_number_of_them_ejects_a_host() -> None:
    api, empty = APIS["chat"], EMPTY["chunked"]
    async with Ollama() as sim, Ollama() as other, running(sim.url, other.url) as proxy:
        for parts in (stream_of(api, LOOP), empty) * 5:
            for host in (sim, other):
                host.clear()
                host.fault("script", route=api.path, parts=parts, finish="keep")
            reply = await ask(proxy.address, "POST", api.path, ask_for(api.path))
            assert (reply.status, reply.clean) == (200, True)
        assert states(proxy) == [("up", None), ("up", None)]
        assert {line["attempts"] for line in proxy.log.requests} == {1}


async def test_each_caller_gets_the_rule_of_his_policy() -> None:
    api = APIS["chat"]
    chain = ["logging", {"auth": {"anonymous": "guests"}}, "streaming"]
    for word in ("auto", "pass"):
        policies = {"guests": {"streaming": {"unterminated": word}}}
        async with Ollama() as sim, running(sim.url, middleware=chain, policies=policies) as proxy:
            assert (await get(sim, proxy, stream_of(api, OTHER), api.path)).clean == (word == "pass")


async def test_a_client_of_ollama_takes_it_as_it_would_take_it_from_ollama() -> None:
    api = APIS["chat"]
    async with Ollama() as sim, running(sim.url) as proxy:
        sim.fault("script", route=api.path, parts=stream_of(api, LOOP), finish="keep")
        client = ollama.AsyncClient(proxy.url)
        stream = await client.chat("llama3.2", ask_for(api.path)["messages"], stream=True)
        assert [part.message.content async for part in stream] == LOOP
        await client._client.aclose()
