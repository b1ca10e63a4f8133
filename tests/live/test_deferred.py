"""Requests that run later: accepted, run when a slot is free, answered byte for byte, from any byte."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.proxy import Running, running
from tests.support.redis import redis_server
from tests.support.tenants import BELIEVE
from tests.support.wire import Client, Reply, ask, request

ASYNC = {"Prefer": "respond-async"}
MESSAGES = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"model": "llama3.2", "messages": MESSAGES}
CALLS = [
    ("/api/chat", CHAT),
    ("/api/chat", {**CHAT, "stream": False}),
    ("/api/generate", {"model": "llama3.2", "prompt": "hi"}),
    ("/v1/chat/completions", {**CHAT, "stream": True}),
    ("/v1/chat/completions", CHAT),
    ("/v1/responses", {"model": "llama3.2", "input": "hi", "stream": True}),
    ("/v1/messages", {**CHAT, "max_tokens": 100, "stream": True}),
    ("/v1/messages", {**CHAT, "max_tokens": 100}),
    ("/v1/embeddings", {"model": "nomic-embed-text", "input": "hi"}),
]
HOMES = ["memory", "sqlite", "redis"]


@pytest.fixture(params=HOMES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The store of the policy file, in each of its homes."""
    if request.param == "redis":
        with redis_server() as server:
            yield server.url
    else:
        yield "memory" if request.param == "memory" else f"sqlite:{tmp_path / 'state.db'}"


@asynccontextmanager
async def deferring(
    ollama: Ollama, store: str = "memory", *, slots: int = 2, middleware: list[object] | None = None, **settings: Any
) -> AsyncIterator[Running]:
    backend = {"name": "b1", "url": ollama.url, "slots": slots}
    chain = middleware or ["logging", "defer", "queue", "retry"]
    async with running(backend, middleware=chain, store=store, **settings) as proxy:
        yield proxy


async def accept(
    proxy: Running, path: str = "/api/chat", body: Mapping[str, Any] = CHAT, headers: Mapping[str, str] | None = None
) -> str:
    """Have a request accepted; return its path."""
    reply = await ask(proxy.address, "POST", path, dict(body), {**ASYNC, **(headers or {})})
    assert reply.status == 202, reply.body
    return reply.headers["location"]


async def answer(proxy: Running, path: str, headers: Mapping[str, str] | None = None) -> Reply:
    return await ask(proxy.address, "GET", f"{path}/answer", headers={"Prefer": "wait=20", **(headers or {})})


async def entry(proxy: Running, path: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    reply = await ask(proxy.address, "GET", path, headers=headers)
    assert reply.status == 200, reply.body
    document: dict[str, Any] = orjson.loads(reply.body)
    return document


async def until_over(proxy: Running, path: str) -> dict[str, Any]:
    """Wait until a request is over, and return its state."""
    async with asyncio.timeout(20):
        await proxy.app.journal.wait_for_change(path.rpartition("/")[2], 2**62, 20)
    return await entry(proxy, path)


# Accepted, run, answered


async def test_what_is_accepted_says_where_its_answer_will_be(store: str) -> None:
    async with Ollama() as ollama, deferring(ollama, store) as proxy:
        reply = await ask(proxy.address, "POST", "/api/chat", CHAT, ASYNC)
        assert reply.status == 202
        assert reply.headers["preference-applied"] == "respond-async"
        told = orjson.loads(reply.body)
        assert reply.headers["location"] == f"/-/requests/{told['id']}"
        assert told["answer"] == f"/-/requests/{told['id']}/answer"
        assert told["durable"] is (store != "memory")
        assert ("note" in told) is (store == "memory")
        assert (await until_over(proxy, reply.headers["location"]))["state"] == "completed"


@pytest.mark.parametrize(("path", "body"), CALLS)
async def test_the_answer_is_what_the_backend_sent(path: str, body: dict[str, Any], store: str) -> None:
    """The simulated host answers the same twice, as far as it is not about the time."""
    async with Ollama(tokens=30) as ollama, deferring(ollama, store) as proxy:
        place = await accept(proxy, path, body)
        later = await answer(proxy, place)
        sent = b"".join(ollama.requests[-1].sent)
        direct = await ask(proxy.address, "POST", path, body)
        assert later.clean
        assert later.body == sent
        assert (later.status, later.headers["content-type"]) == (direct.status, direct.headers["content-type"])
        seen = await entry(proxy, place)
        assert (seen["state"], seen["attempts"], seen["recorded"]) == ("completed", 1, len(later.body))


async def test_the_line_of_the_log_names_the_entry() -> None:
    async with Ollama() as ollama, deferring(ollama) as proxy:
        place = await accept(proxy)
        await until_over(proxy, place)
        await eventually(lambda: len(proxy.log.requests) >= 2)
        accepted, ran = proxy.log.requests[:2]
        assert accepted["deferred"] == ran["deferred"] == place.rpartition("/")[2]
        assert (accepted["status"], accepted["backend"]) == (202, None)
        assert (ran["status"], ran["backend"]) == (200, "b1")


async def test_a_whole_answer_can_be_read_in_parts(store: str) -> None:
    async with Ollama(tokens=20) as ollama, deferring(ollama, store) as proxy:
        place = await accept(proxy)
        whole = (await answer(proxy, place)).body
        size = len(whole)
        for wanted, part, shown in [
            ("bytes=5-", whole[5:], f"bytes 5-{size - 1}/{size}"),
            ("bytes=5-9", whole[5:10], f"bytes 5-9/{size}"),
            ("bytes=-7", whole[-7:], f"bytes {size - 7}-{size - 1}/{size}"),
            (f"bytes=5-{size * 2}", whole[5:], f"bytes 5-{size - 1}/{size}"),
        ]:
            reply = await answer(proxy, place, {"Range": wanted})
            assert (reply.status, reply.body, reply.headers["content-range"]) == (206, part, shown)
        for nonsense in ("bytes=9-5", "lines=1-2", "bytes=0-1,3-4"):
            assert (await answer(proxy, place, {"Range": nonsense})).status == 200
        beyond = await answer(proxy, place, {"Range": f"bytes={size}-"})
        assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{size}")


async def test_an_answer_is_read_while_it_grows(store: str) -> None:
    async with Ollama(tokens=40, token_delay=0.01) as ollama, deferring(ollama, store) as proxy:
        place = await accept(proxy)
        client = await Client.connect(proxy.address)
        await client.send(request("GET", f"{place}/answer", headers={"Prefer": "wait=20", "Range": "bytes=10-"}))
        head = await client.read_head()
        assert head.status == 206
        assert head.headers["content-range"] == f"bytes 10-{2**53 - 1}/*"
        first = await client.read_chunk()
        assert (await entry(proxy, place))["state"] == "running"
        rest = [first]
        while chunk := await client.read_chunk():
            rest.append(chunk)
        await client.close()
        whole = (await answer(proxy, place)).body
        assert b"".join(rest) == whole[10:]
        assert b'"done":true' in whole


async def test_what_has_not_begun_is_202_with_its_place_in_the_line() -> None:
    async with Ollama(token_delay=0.05, tokens=100) as ollama, deferring(ollama, slots=1) as proxy:
        await accept(proxy)
        second, third = await accept(proxy), await accept(proxy)
        reply = await ask(proxy.address, "GET", f"{third}/answer")
        assert (reply.status, reply.headers["retry-after"]) == (202, "2")
        assert orjson.loads(reply.body)["position"] >= (await entry(proxy, second))["position"]
        assert orjson.loads(reply.body)["state"] == "queued"


# Whose it is


async def test_what_is_somebody_elses_does_not_exist() -> None:
    chain: list[object] = ["logging", BELIEVE, "defer", "queue", "retry"]
    async with Ollama() as ollama, deferring(ollama, middleware=chain) as proxy:
        alice, bob = {"identity": "alice"}, {"identity": "bob"}
        place = await accept(proxy, headers=alice)
        assert (await answer(proxy, place, alice)).status == 200
        unknown = f"/-/requests/{'0' * 32}"
        for method, end in [("GET", ""), ("GET", "/answer"), ("DELETE", "")]:
            his = await ask(proxy.address, method, place + end, headers=bob)
            none = await ask(proxy.address, method, unknown + end, headers=bob)
            assert (his.status, his.body) == (none.status, none.body)
            assert his.status == 404
        mine = orjson.loads((await ask(proxy.address, "GET", "/-/requests", headers=alice)).body)
        assert [one["id"] for one in mine["requests"]] == [place.rpartition("/")[2]]
        assert orjson.loads((await ask(proxy.address, "GET", "/-/requests", headers=bob)).body)["requests"] == []


async def test_a_list_goes_on_behind_its_end() -> None:
    async with Ollama() as ollama, deferring(ollama) as proxy:
        places = [await accept(proxy) for _ in range(5)]
        seen: list[str] = []
        after = ""
        while True:
            page = orjson.loads((await ask(proxy.address, "GET", f"/-/requests?limit=2{after}")).body)
            seen += [f"/-/requests/{one['id']}" for one in page["requests"]]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert seen == places[::-1]
        assert (await ask(proxy.address, "GET", "/-/requests?limit=0")).status == 400


# Ended


async def test_to_cancel_stops_the_generation(store: str) -> None:
    async with Ollama(tokens=1000, token_delay=0.02) as ollama, deferring(ollama, store) as proxy:
        place = await accept(proxy)
        await eventually(lambda: ollama.counters.generating == 1)
        cancelled = await ask(proxy.address, "DELETE", place)
        assert orjson.loads(cancelled.body)["state"] == "cancelled"
        await eventually(lambda: ollama.counters.active == 0)
        assert ollama.requests[-1].state == "cancelled"
        gone = await answer(proxy, place)
        assert gone.status in (200, 410)
        assert not gone.clean or gone.status == 410
        assert (await ask(proxy.address, "DELETE", place)).status == 204
        assert (await ask(proxy.address, "GET", place)).status == 404


async def test_what_is_queued_is_cancelled_and_never_runs() -> None:
    async with Ollama(tokens=20, token_delay=0.01) as ollama, deferring(ollama, slots=1) as proxy:
        first, second = await accept(proxy), await accept(proxy)
        await ask(proxy.address, "DELETE", second)
        await until_over(proxy, first)
        reply = await answer(proxy, second)
        assert (reply.status, reply.headers["x-error-code"]) == (410, "deferred_failed")
        assert len(ollama.requests) == 1


async def test_an_error_of_the_backend_is_the_answer() -> None:
    async with Ollama() as ollama, deferring(ollama) as proxy:
        place = await accept(proxy, "/v1/chat/completions", {"model": "nowhere", "messages": MESSAGES})
        reply = await answer(proxy, place)
        direct = await ask(proxy.address, "POST", "/v1/chat/completions", {"model": "nowhere", "messages": MESSAGES})
        assert (reply.status, reply.body) == (direct.status, direct.body)
        seen = await entry(proxy, place)
        assert (seen["state"], seen["status"], seen["attempts"]) == ("failed", 404, 1)


# When the queue is full


def full(*occasions: str) -> list[object]:
    return ["logging", {"defer": {"when": list(occasions)}}, {"queue": {"depth": 0}}, "retry"]


@asynccontextmanager
async def busy(*occasions: str) -> AsyncIterator[Running]:
    """A proxy whose one slot is taken, and whose queue takes nobody."""
    async with (
        Ollama(tokens=1000, token_delay=0.02) as ollama,
        deferring(ollama, slots=1, middleware=full(*occasions)) as proxy,
    ):
        client = await Client.connect(proxy.address)
        await client.send(request("POST", "/api/chat", CHAT))
        await client.read_head()
        try:
            yield proxy
        finally:
            client.hang_up(reset=True)


async def test_a_full_queue_defers_only_who_asked() -> None:
    async with busy("asked_and_full") as proxy:
        refused = await ask(proxy.address, "POST", "/api/chat", CHAT)
        assert (refused.status, refused.headers["x-error-code"]) == (503, "queue_full")
        kept = await ask(proxy.address, "POST", "/api/chat", CHAT, ASYNC)
        assert (kept.status, kept.headers["preference-applied"]) == (202, "respond-async")


async def test_a_full_queue_defers_everybody_where_the_policy_says_so() -> None:
    async with busy("full") as proxy:
        kept = await ask(proxy.address, "POST", "/api/chat", CHAT)
        assert kept.status == 202
        assert "preference-applied" not in kept.headers


async def test_who_asks_is_answered_at_once_where_there_is_a_slot() -> None:
    async with Ollama() as ollama, deferring(ollama, middleware=full("asked_and_full")) as proxy:
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT, ASYNC)).status == 200


async def test_who_would_wait_is_answered_if_his_turn_comes_in_time() -> None:
    async with Ollama(tokens=5) as ollama, deferring(ollama) as proxy:
        reply = await ask(proxy.address, "POST", "/api/chat", CHAT, {"Prefer": "respond-async, wait=10"})
        assert reply.status == 200
        assert b'"done":true' in reply.body


async def test_who_would_wait_is_deferred_if_his_turn_does_not_come() -> None:
    async with (
        Ollama(tokens=1000, token_delay=0.02) as ollama,
        deferring(ollama, slots=1, middleware=["logging", "defer", "queue", "retry"]) as proxy,
    ):
        client = await Client.connect(proxy.address)
        await client.send(request("POST", "/api/chat", CHAT))
        await client.read_head()
        reply = await ask(proxy.address, "POST", "/api/chat", CHAT, {"Prefer": "respond-async; x, wait=1"})
        assert reply.status == 202
        client.hang_up(reset=True)
        assert (await entry(proxy, reply.headers["location"]))["state"] in ("queued", "running")


# The same once


async def test_a_key_makes_one_entry_of_the_same_request(store: str) -> None:
    async with Ollama() as ollama, deferring(ollama, store) as proxy:
        key = {"Idempotency-Key": "one"}
        first, again = await accept(proxy, headers=key), await accept(proxy, headers={"Idempotency-Key": '"one"'})
        assert first == again
        assert (await until_over(proxy, first))["state"] == "completed"
        assert await accept(proxy, headers=key) == first
        other = await ask(proxy.address, "POST", "/api/chat", {**CHAT, "stream": False}, {**ASYNC, **key})
        assert (other.status, other.headers["x-error-code"]) == (422, "idempotency_key_reused")
        assert len(ollama.requests) == 1


# Bounds


async def test_the_bounds() -> None:
    chain: list[object] = [
        "logging",
        BELIEVE,
        {"defer": {"per_identity": 2, "total": 3, "max_body": "1KiB", "max_answer": "2KiB"}},
        "queue",
        "retry",
    ]
    async with (
        Ollama(tokens=2000, token_delay=0.01) as ollama,
        deferring(ollama, slots=1, middleware=chain) as proxy,
    ):
        alice, bob, carol = ({**ASYNC, "identity": name} for name in ("alice", "bob", "carol"))
        long = {**CHAT, "keep_alive": "5m", "format": "x" * 1024}
        places = [(await ask(proxy.address, "POST", "/api/chat", CHAT, alice)).headers["location"] for _ in range(2)]
        for who, body, status, code in [
            (alice, CHAT, 429, "deferred_share_exceeded"),
            (bob, long, 413, "deferred_too_large"),
            (bob, CHAT, 202, None),
            (carol, CHAT, 507, "journal_full"),
        ]:
            reply = await ask(proxy.address, "POST", "/api/chat", body, who)
            assert (reply.status, reply.headers.get("x-error-code")) == (status, code)
            assert ("retry-after" in reply.headers) is (status in (429, 507))
        async with asyncio.timeout(20):
            await proxy.app.journal.wait_for_change(places[0].rpartition("/")[2], 2**62, 20)
        seen = await entry(proxy, places[0], {"identity": "alice"})
        assert seen["state"] == "failed"
        assert seen["error"].startswith("answer_too_long")
        assert seen["recorded"] <= 2048


# A burst


async def test_a_burst_completes_in_fair_order_and_none_twice(store: str) -> None:
    chain: list[object] = ["logging", BELIEVE, "defer", "queue", "retry"]
    async with (
        Ollama(tokens=2, num_parallel=2) as ollama,
        deferring(ollama, store, slots=2, middleware=chain) as proxy,
    ):
        tenants = ["greedy"] * 60 + ["a"] * 20 + ["b"] * 20
        bodies = [{**CHAT, "messages": [{"role": "user", "content": f"{name} {n}"}]} for n, name in enumerate(tenants)]
        proxy.app.runner.use(None)  # the whole burst is there before the first of it runs
        places = [
            await accept(proxy, body=body, headers={"tenant": name, "identity": name})
            for name, body in zip(tenants, bodies, strict=True)
        ]
        proxy.app.reload(proxy.app.plan.loaded)
        for place in places:
            await proxy.app.journal.wait_for_change(place.rpartition("/")[2], 2**62, 60)
        states = Counter(
            [
                (await entry(proxy, place, {"tenant": name, "identity": name}))["state"]
                for place, name in zip(places, tenants, strict=True)
            ]
        )
        assert states == {"completed": 100}
        said = [orjson.loads(one.body)["messages"][0]["content"] for one in ollama.requests if one.path == "/api/chat"]
        assert Counter(said) == Counter(body["messages"][0]["content"] for body in bodies)
        served = Counter(text.split()[0] for text in said[:60])  # all three have work until then
        assert sum(served.values()) ** 2 / (3 * sum(count**2 for count in served.values())) >= 0.95
