"""Whose fault a failure is, through the whole proxy: what one caller's requests do to hosts that others need."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from proxy.kernel.asgi import header
from proxy.kernel.retry_budget import RetryBudget
from proxy.services.fair_retry_budget import FairRetryBudget
from proxy.simulator import Ollama
from tests.support.backend import Backend, Peer, backend, eventually, reply
from tests.support.proxy import Running, running
from tests.support.wire import Client, ask, request

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}], "stream": False}
KILL = {**CHAT, "messages": [{"role": "user", "content": "KILL"}]}
ANSWER = reply(b'{"message":{"role":"assistant","content":"a"},"done":true}', b"Content-Type: application/json")


def generate(**more: Any) -> tuple[str, dict[str, Any]]:
    return "/api/generate", {"model": "llama3.2", "prompt": "hi", "stream": False, **more}


MISTAKES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "temperature": generate(options={"temperature": "hot"}),
    "num_gpu": generate(options={"num_gpu": "x"}),
    "top_k": generate(options={"top_k": [1]}),
    "format": generate(format="xml"),
    "format in a chat": ("/api/chat", {**CHAT, "format": "xml"}),
    "embeddings of a chat model": ("/api/embeddings", {"model": "llama3.2", "prompt": "hi"}),
}


def budget(proxy: Running) -> FairRetryBudget:
    found = proxy.app.services[RetryBudget]
    assert isinstance(found, FairRetryBudget)
    return found


def states(proxy: Running) -> list[str]:
    return [backend.health.state for backend in proxy.app.pool.backends]


@pytest.mark.parametrize("chain", [["logging"], ["logging", "retry"], ["logging", "queue", "retry"]], ids=str)
@pytest.mark.parametrize("name", MISTAKES)
async def test_a_callers_mistakes_are_no_hosts_fault(name: str, chain: list[Any]) -> None:
    path, body = MISTAKES[name]
    async with Ollama(chat_embeds=False) as one, Ollama(chat_embeds=False) as two:
        async with running(one.url, two.url, middleware=chain) as proxy:
            saved = budget(proxy)._saved
            for _ in range(12):
                assert (await ask(proxy.address, "POST", path, body)).status == 500
            assert states(proxy) == ["up", "up"]
            assert len(one.requests) + len(two.requests) == 12
            assert budget(proxy)._saved >= saved
            lines = [await proxy.log.request(number) for number in range(1, 13)]
            assert {(line["attempts"], line["status"]) for line in lines} == {(1, 500)}
            assert {line["gave_up"] for line in lines} == {"content_error" if "retry" in chain else None}


@dataclass
class Host:
    """A scripted host: what it was asked, and what it does when the words KILL are in it."""

    backend: Backend | None = None
    killed: int = 0
    served: int = 0
    error: bytes | None = None
    """What it answers to everything but questions of how it is; None: it serves."""
    resets: bool = False
    partial: bytes = b""
    waits_for: Callable[[], bool] | None = None
    """What it waits for, but not long, before it dies."""
    seen: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        assert self.backend is not None
        return self.backend.url

    async def script(self, peer: Peer) -> None:
        while True:
            asked = await peer.request()
            self.seen.append(asked)
            if b"KILL" in asked:
                self.killed += 1
                if self.waits_for is not None:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.2):
                            await eventually(self.waits_for)
                if self.partial:
                    await peer.send(self.partial)
                if self.resets:
                    peer.reset()
                return
            self.served += 1
            await peer.send(self.error or ANSWER)


@asynccontextmanager
async def hosts(count: int, chain: list[Any], **more: Any) -> AsyncIterator[tuple[list[Host], Running]]:
    async with AsyncExitStack() as stack:
        all_of_them = [Host(**more) for _ in range(count)]
        for host in all_of_them:
            host.backend = await stack.enter_async_context(backend(host.script))
        yield (
            all_of_them,
            await stack.enter_async_context(running(*(host.url for host in all_of_them), middleware=chain)),
        )


async def warm(proxy: Running, some: list[Host]) -> None:
    """Leave a connection at rest at each host."""
    for number, _ in enumerate(some, 1):
        headers = {"X-Ollama-Backend": f"b{number}"}
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT, headers)).status == 200
    await eventually(lambda: all(backend.transport.idle for backend in proxy.app.pool.backends))  # type: ignore[attr-defined]


KILLS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/api/chat", KILL),
    "embed": ("/api/embed", {"model": "llama3.2", "input": "KILL"}),
    "generate": generate(prompt="KILL"),
    "openai": ("/v1/chat/completions", KILL),
}
CHAINS: Mapping[str, list[Any]] = {
    "retry": ["logging", {"retry": {"attempts": 6}}],
    "queued": ["logging", "queue", {"retry": {"attempts": 6}}],
    "fallback": ["logging", {"retry": {"attempts": 3, "fallback": {"llama3.2": ["qwen3", "phi4"]}}}],
    "hedged": ["logging", {"retry": {"attempts": 3, "hedge": {"after": "1ms"}}}],
}
ONCE: Mapping[str, list[Any]] = {
    "hedged": ["logging", {"retry": {"attempts": 1, "hedge": {"after": "1ms"}}}],
    "fallback": ["logging", {"retry": {"attempts": 1, "fallback": {"llama3.2": ["qwen3", "phi4"]}}}],
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "fresh"])
@pytest.mark.parametrize("what", KILLS)
async def test_a_request_that_kills_arrives_at_exactly_two(what: str, kept: bool, chain: list[Any]) -> None:
    path, body = KILLS[what]
    async with hosts(4, chain) as (some, proxy):
        if kept:
            await warm(proxy, some)
        before = len(proxy.log.requests)
        answer = await ask(proxy.address, "POST", path, body)
        assert answer.status == 502
        assert sorted(host.killed for host in some) == [0, 0, 1, 1]
        line = await proxy.log.request(before + 1)
        assert (line["error_code"], line["gave_up"], line["attempts"]) == ("suspected_poison", "suspected_poison", 2)
        (event,) = [event for event in proxy.log.events if event["event"] == "suspected_poison"]
        assert event["request_id"] == line["request_id"]
        assert len(event["backends"]) == 2
        assert event["client_address"] == "127.0.0.1"


@pytest.mark.parametrize("chain", ONCE.values(), ids=ONCE)
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "fresh"])
@pytest.mark.parametrize("slow", [True, False], ids=["slow", "fast"])
async def test_nor_at_more_than_two_where_it_is_tried_once(slow: bool, kept: bool, chain: list[Any]) -> None:
    """Slow ones kill when all that are asked at a time have it."""
    path, body = KILLS["embed"]
    async with hosts(4, chain) as (some, proxy):
        if kept:
            await warm(proxy, some)
        if slow:
            for host in some:
                host.waits_for = lambda: sum(len(other.seen) for other in some) >= (4 if kept else 0) + 2
        assert (await ask(proxy.address, "POST", path, body)).status == 502
        assert 1 <= sum(host.killed for host in some) <= 2
        assert (await proxy.log.request(len(proxy.log.requests)))["attempts"] <= 2


@pytest.mark.parametrize(
    "how", [{"resets": True}, {"partial": b"HTTP/1.1 200 OK\r\nContent-Ty"}, {"partial": b"H"}], ids=str
)
async def test_so_does_one_that_kills_in_another_way(how: dict[str, Any]) -> None:
    async with hosts(4, CHAINS["retry"], **how) as (some, proxy):
        await warm(proxy, some)
        assert (await ask(proxy.address, "POST", "/api/chat", KILL)).status == 502
        assert sum(host.killed for host in some) == 2


@pytest.mark.parametrize(
    "text",
    [
        "llama runner process has terminated: exit status 2",
        "an error was encountered while running the model: CUDA error: an illegal memory access was encountered",
        "an error was encountered while running the model: unexpected EOF",
    ],
)
async def test_a_runner_that_dies_of_it_counts_too(text: str) -> None:
    body = orjson.dumps({"error": text})
    died = reply(body, b"Content-Type: application/json", status=b"500 Internal Server Error")
    async with hosts(4, CHAINS["retry"], error=died) as (some, proxy):
        answer = await ask(proxy.address, "POST", "/api/chat", CHAT)
        assert (answer.status, answer.body) == (500, body)
        assert sum(host.served for host in some) == 2
        assert (await proxy.log.request())["error_code"] == "suspected_poison"
        assert "ejected" not in states(proxy)


async def test_repeating_it_ejects_nobody_and_others_are_served() -> None:
    async with hosts(3, CHAINS["retry"]) as (some, proxy):
        await warm(proxy, some)
        for _ in range(12):
            assert (await ask(proxy.address, "POST", "/api/chat", KILL)).status in (502, 503)
            assert "ejected" not in states(proxy)
            assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).status == 200


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "fresh"])
async def test_without_retry_it_arrives_twice_at_most(kept: bool) -> None:
    async with hosts(1, ["logging"]) as (some, proxy):
        if kept:
            await warm(proxy, some)
        assert (await ask(proxy.address, "POST", "/api/chat", KILL)).status == 502
        assert some[0].killed == 1 + kept


async def test_what_may_not_be_repeated_arrives_once() -> None:
    async with hosts(3, CHAINS["retry"]) as (some, proxy):
        await warm(proxy, some)
        headers = {"X-Ollama-Backend": "b1"}
        answer = await ask(proxy.address, "POST", "/api/copy", {"source": "KILL", "destination": "x"}, headers)
        assert answer.status == 502
        assert sum(host.killed for host in some) == 1


@pytest.mark.parametrize("chain", [["logging"], ["logging", "retry"]], ids=["bare", "retry"])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
async def test_a_kept_connection_that_the_backend_closed_is_nobodys_problem(
    chain: list[Any], count: int, reset: bool
) -> None:
    """It answers one request on a connection, keeps it, and closes it when the next one comes."""
    served = 0

    async def script(peer: Peer) -> None:
        nonlocal served
        await peer.request()
        served += 1
        await peer.send(ANSWER)
        await peer.request()
        if reset:
            peer.reset()

    async with AsyncExitStack() as stack:
        some = [await stack.enter_async_context(backend(script)) for _ in range(count)]
        proxy = await stack.enter_async_context(running(*(host.url for host in some), middleware=chain))
        client = await Client.connect(proxy.address)
        for number in range(8):
            await client.send(request("POST", "/api/chat", CHAT))
            assert (await client.read()).status == 200
            line = await proxy.log.request(number + 1)
            assert line["attempts"] <= 2
        await client.close()
        assert served == 8
        assert "ejected" not in states(proxy)


@pytest.mark.parametrize("attempts", [1, 2, 3])
async def test_nor_is_it_where_another_host_is_not_there(attempts: int) -> None:
    """As above, while one of two hosts refuses connections and the budget is low."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ANSWER)
        await peer.request()

    options = {"attempts": attempts, "backoff": {"base": "0s"}, "fallback": {"other": ["another"]}}
    chain: list[Any] = ["logging", {"retry": options}]
    async with Ollama() as gone:
        url = gone.url
    async with backend(script) as host, running(url, host.url, middleware=chain) as proxy:
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT, {"X-Ollama-Backend": "b2"})).status == 200
        for _ in range(20):
            assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).status == 200


@pytest.mark.parametrize("word", ["input/output error", "too many open files", "permission denied"])
@pytest.mark.parametrize("chain", [["logging", "retry"], ["logging", "queue", "retry"]], ids=["retry", "queued"])
async def test_a_host_that_cannot_read_its_models_draws_nothing_to_it(chain: list[Any], word: str) -> None:
    text = f"open /models/manifests/registry.ollama.ai/library/llama3.2/latest: {word}"
    async with hosts(2, chain) as (some, proxy):
        some[0].error = reply(orjson.dumps({"error": text}), status=b"500 Internal Server Error")
        for _ in range(40):
            assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).status == 200
        assert some[0].served <= 6


async def test_an_error_that_looks_like_the_contents_pins_no_conversation() -> None:
    async with hosts(2, ["logging"]) as (some, proxy):
        some[0].error = reply(b'{"error":"invalid format: odd"}', status=b"500 Internal Server Error")
        other = proxy.app.pool.backends[1].health
        other.draining = True
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).status == 500
        other.draining = False
        assert {(await ask(proxy.address, "POST", "/api/chat", CHAT)).status for _ in range(20)} == {200}


async def test_an_error_that_two_hosts_give_is_an_answer() -> None:
    body = b'{"error":"odd thing 17 happened"}'
    odd = reply(body, b"Content-Type: application/json", status=b"500 Internal Server Error")
    async with hosts(4, CHAINS["retry"], error=odd) as (some, proxy):
        for _ in range(12):
            answer = await ask(proxy.address, "POST", "/api/chat", CHAT)
            assert (answer.status, answer.body) == (500, body)
        assert sum(host.served for host in some) <= 24
        assert states(proxy) == ["up"] * 4
        line = await proxy.log.request()
        assert (line["attempts"], line["gave_up"]) == (2, "same_error")


async def test_a_host_that_is_sick_loses_its_traffic_though_only_one_caller_is_there() -> None:
    async with hosts(2, CHAINS["retry"]) as (some, proxy):
        body = b'{"error":"odd"}'
        some[0].error = reply(body, b"Content-Type: application/json", status=b"500 Internal Server Error")
        for _ in range(30):
            assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).status == 200
        assert some[0].served <= 6
        assert states(proxy)[1] == "up"


async def test_one_callers_retries_leave_some_for_the_others() -> None:
    """Errors that the proxy does not know cost a retry each, and somebody else was there a moment ago."""
    odd = reply(b'{"error":"odd"}', status=b"500 Internal Server Error")
    async with hosts(2, CHAINS["retry"], error=odd) as (_, proxy):
        budget(proxy).earn(0.0, "by somebody else")
        budget(proxy).done("by somebody else")
        for _ in range(40):
            await ask(proxy.address, "POST", "/api/chat", CHAT)
        await proxy.log.request(40)
        assert budget(proxy)._saved >= 5.0
        assert budget(proxy).spend("by somebody else")


@pytest.mark.parametrize("chain", [["logging"], ["logging", "retry"]], ids=["bare", "retry"])
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
async def test_no_address_of_a_backend_is_told_to_callers(chain: list[Any], path: str) -> None:
    async with Ollama() as sim:
        url = sim.url
    async with running({"name": "gpu-1", "url": url}, middleware=chain) as proxy:
        answer = await ask(proxy.address, "POST", path, {**CHAT, "max_tokens": 8})
        assert answer.status == 502
        assert url.removeprefix("http://").encode() not in answer.body
        assert b"cannot connect to the backend gpu-1" in answer.body
        assert url in (await proxy.log.request())["error"]
        assert url in str(proxy.app.pool.backends[0].last_error)


async def test_a_content_length_among_the_trailers_cuts_no_answer() -> None:
    data = b'{"message":{"role":"assistant","content":"a"},"done":true}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(head + b"%x\r\n%b\r\n0\r\nContent-Length: 5\r\nX-T: 1\r\n\r\n" % (len(data), data))

    async with backend(script) as host, running(host.url) as proxy:
        for _ in range(3):
            answer = await ask(proxy.address, "POST", "/api/chat", CHAT)
            assert (answer.status, answer.clean, answer.body) == (200, True, data)
            assert not {"x-t", "content-length"} & answer.headers.keys()


async def test_fifty_requests_of_few_callers_move_when_their_host_dies() -> None:
    async with Ollama(token_delay=0.0, prompt_delay=0.3) as one, Ollama() as two:
        async with running(one.url, two.url, middleware=["logging", "retry"]) as proxy:
            for backend in proxy.app.pool.backends:
                await proxy.app.watch.look(backend)
            proxy.app.pool.backends[1].health.draining = True
            asking = [asyncio.create_task(ask(proxy.address, "POST", "/api/chat", CHAT)) for _ in range(50)]
            await eventually(lambda: proxy.app.pool.backends[0].active == 50)
            proxy.app.pool.backends[1].health.draining = False
            await one.stop()
            answers = await asyncio.gather(*asking)
            assert {answer.status for answer in answers} == {200}
            assert all(header(seen.headers, b"host") for seen in two.seen("/api/chat"))
            assert orjson.loads(answers[0].body)["done"]
