"""rate_limit in the whole proxy: refusals of every flavor, and what a caller who left is charged."""

import asyncio
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from proxy.kernel.quotas import Level, Quota, Window
from proxy.kernel.units import Rate
from proxy.simulator import Ollama
from tests.support.backend import always, backend, eventually, reply
from tests.support.proxy import Running, running
from tests.support.redis import redis_server
from tests.support.wire import Client, ask, request

CHAT: dict[str, Any] = {
    "model": "llama3.2",
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 100,
    "options": {"num_predict": 100},
}
BLIND = {"health": {"every": "1h"}}
"""A script knows nothing of probes."""
ME = "rate_limit/default/identity=@127.0.0.1"


def tokens(rate: str) -> Quota:
    return Quota(ME, tokens=(Window(Rate.parse(rate)),))


async def level(proxy: Running, quota: Quota) -> Level:
    (found,) = await proxy.app.store.look([quota])
    return found


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/api/chat", lambda document: document["error"]),
        ("/v1/chat/completions", lambda document: document["error"]["message"]),
        ("/v1/messages", lambda document: document["error"]["message"]),
    ],
)
async def test_a_refusal_in_the_form_of_each_api(path: str, place: Any) -> None:
    async with (
        Ollama() as sim,
        running(sim.url, middleware=["logging", {"rate_limit": {"requests": "1/day"}}]) as proxy,
    ):
        assert (await ask(proxy.address, "POST", path, CHAT)).status == 200
        answer = await ask(proxy.address, "POST", path, CHAT)
        line = await proxy.log.request(2)
        assert [relayed.path for relayed in sim.requests].count(path) == 1
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert place(orjson.loads(answer.body)).startswith("rate_limit: 1 of 1 requests per day are used for this identity")
    assert (line["outcome"], line["status"]) == ("refused", 429)


async def test_reported_tokens_are_what_counts() -> None:
    options = {"tokens": "100000/day"}
    async with (
        Ollama(chat_embeds=True) as sim,
        running(sim.url, middleware=["logging", {"rate_limit": options}]) as proxy,
    ):
        total = 0
        for number, path in enumerate(("/api/chat", "/v1/chat/completions", "/v1/messages", "/api/embed"), 1):
            body = {**CHAT, "input": "some words"} if path == "/api/embed" else CHAT
            assert (await ask(proxy.address, "POST", path, body)).status == 200
            line = await proxy.log.request(number)
            total += line["tokens_in"] + (line["tokens_out"] or 0)
            assert (await level(proxy, tokens("100000/day"))).used == total
        assert total > 4


async def test_a_caller_who_left_is_charged_for_what_was_delivered_and_his_place_is_free() -> None:
    options = {"tokens": "100000/day", "streams": 1}
    async with Ollama(token_delay=0.005, tokens=10_000) as sim:
        async with running(sim.url, middleware=["logging", {"rate_limit": options}]) as proxy:
            client = await Client.connect(proxy.address)
            body = {**CHAT, "options": {}}
            await client.send(request("POST", "/api/chat", body))
            await client.read_head()
            for _ in range(5):
                await client.read_chunk()
            assert (await ask(proxy.address, "POST", "/api/chat", body)).status == 429
            client.hang_up()
            await proxy.log.wait_for(lambda log: any(line["outcome"] == "client_gone" for line in log.requests))
            (line,) = [line for line in proxy.log.requests if line["outcome"] == "client_gone"]
            assert line["tokens_source"] == "estimated"
            found = await level(proxy, tokens("100000/day"))
            assert 5 < found.used < 200
            assert found.used > line["tokens_out"] >= 5
            assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).status == 200


STREAMS = ("/api/chat", "/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses")
STREAMED = {**CHAT, "stream": True, "prompt": "hi", "input": "hi", "max_output_tokens": 100}


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("path", STREAMS)
async def test_no_stream_is_free(path: str, asked: bool) -> None:
    """OpenAI's streams tell no counts unless they are asked to."""
    body = {**STREAMED, "stream_options": {"include_usage": asked}}
    async with (
        Ollama() as sim,
        running(sim.url, middleware=["logging", {"rate_limit": {"tokens": "9000/day"}}]) as proxy,
    ):
        assert (await ask(proxy.address, "POST", path, body)).clean
        line = await proxy.log.request()
        found = await level(proxy, tokens("9000/day"))
    told = asked or not path.endswith("completions")
    assert line["tokens_source"] == ("reported" if told else "estimated")
    assert 100 <= line["tokens_out"] <= 102
    assert found.used >= 100


@pytest.mark.parametrize("path", STREAMS)
async def test_no_stream_is_free_for_who_leaves_before_its_end(path: str) -> None:
    body = {**STREAMED, "stream_options": {"include_usage": True}}
    async with (
        Ollama() as sim,
        running(sim.url, middleware=["logging", {"rate_limit": {"tokens": "9000/day"}}]) as proxy,
    ):
        sim.fault("stall", route=path, after=50)
        client = await Client.connect(proxy.address)
        await client.send(request("POST", path, body))
        await client.read_head()
        for _ in range(50):
            await client.read_chunk()
        client.hang_up()
        line = await proxy.log.request()
        found = await level(proxy, tokens("9000/day"))
    assert (line["outcome"], line["tokens_source"], line["tokens_out"]) == ("client_gone", "estimated", 50)
    assert 50 < found.used < 200


@pytest.mark.parametrize("stream", [False, True])
async def test_who_leaves_before_the_first_byte_pays_for_the_prompt(stream: bool) -> None:
    async with (
        Ollama() as sim,
        running(sim.url, middleware=["logging", {"rate_limit": {"tokens": "9000/day"}}]) as proxy,
    ):
        stalled = sim.fault("stall", route="/api/chat")
        client = await Client.connect(proxy.address)
        await client.send(request("POST", "/api/chat", {**CHAT, "stream": stream}))
        await eventually(lambda: stalled.hits == 1)
        client.hang_up()
        line = await proxy.log.request()
        found = await level(proxy, tokens("9000/day"))
    assert line["outcome"] == "client_gone"
    assert 10 < found.used < 100


WORDS = "some words " * 400
WHOLE: dict[str, tuple[dict[str, Any], bytes]] = {
    "/api/chat": ({"stream": False}, b'{"message":{"role":"assistant","content":"hello"},"done":true}'),
    "/api/generate": ({"stream": False}, b'{"response":"hello there","done":true,"done_reason":"stop"}'),
    "/v1/chat/completions": ({}, b'{"choices":[{"message":{"content":"hello"},"finish_reason":"stop"}]}'),
    "/v1/messages": ({}, b'{"content":[{"type":"text","text":"hello"}],"stop_reason":"end_turn"}'),
    "/api/embed": ({}, b'{"embeddings":[[0.5,0.25]]}'),
    "/api/embeddings": ({}, b'{"embedding":[0.5,0.25]}'),
    "/v1/embeddings": ({}, b'{"data":[{"embedding":[0.5,0.25]}]}'),
}


@pytest.mark.parametrize("path", WHOLE)
async def test_no_whole_answer_is_free_and_the_log_tells_what_was_counted(path: str) -> None:
    more, answer = WHOLE[path]
    body = {"model": "llama3.2", "prompt": WORDS, "input": WORDS, "messages": [{"role": "user", "content": WORDS}]}
    script = always(reply(answer, b"Content-Type: application/json"))
    chain = ["logging", {"rate_limit": {"tokens": "90000/day"}}]
    async with backend(script) as host, running(host.url, middleware=chain, pool=BLIND) as proxy:
        assert (await ask(proxy.address, "POST", path, {**body, **more})).body == answer
        line = await proxy.log.request()
        found = await level(proxy, tokens("90000/day"))
    assert line["tokens_source"] == "estimated"
    assert line["tokens_in"] >= len(orjson.dumps(body)) // 4
    assert line["tokens_out"] == (None if "embed" in path else len(answer) // 4)
    assert found.used == line["tokens_in"] + (line["tokens_out"] or 0)


async def test_a_recording_is_not_free() -> None:
    form = (
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ngemma3n\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        + b"R" * 40960
        + b"\r\n--b--\r\n"
    )
    script = always(reply(b'{"text":"hello there"}', b"Content-Type: application/json"))
    chain = ["logging", {"rate_limit": {"tokens": "90000/day"}}]
    async with backend(script) as host, running(host.url, middleware=chain, pool=BLIND) as proxy:
        headers = {"content-type": "multipart/form-data; boundary=b"}
        assert (await ask(proxy.address, "POST", "/v1/audio/transcriptions", form, headers)).status == 200
        line = await proxy.log.request()
        found = await level(proxy, tokens("90000/day"))
    assert (line["tokens_in"], line["tokens_out"], line["tokens_source"]) == (20, 5, "estimated")
    assert found.used == 25


async def test_a_model_that_is_only_loaded_costs_nothing() -> None:
    chain = ["logging", {"rate_limit": {"tokens": "90000/day"}}]
    async with Ollama() as sim, running(sim.url, middleware=chain) as proxy:
        for keep_alive in ("5m", 0):
            answer = await ask(proxy.address, "POST", "/api/generate", {"model": "llama3.2", "keep_alive": keep_alive})
            assert answer.status == 200
        line = await proxy.log.request(2)
        assert (await level(proxy, tokens("90000/day"))).used == 0
    assert (line["tokens_in"], line["tokens_source"], line["done_reason"]) == (None, None, "unload")


@pytest.mark.parametrize("path", ["/api/chat", "/api/embeddings"])
async def test_the_log_tells_what_a_leaver_was_charged(path: str) -> None:
    chain = ["logging", {"rate_limit": {"tokens": "90000/day"}}]
    async with Ollama() as sim, running(sim.url, middleware=chain) as proxy:
        stalled = sim.fault("stall", route=path)
        client = await Client.connect(proxy.address)
        await client.send(request("POST", path, {**CHAT, "prompt": WORDS}))
        await eventually(lambda: stalled.hits == 1)
        client.hang_up()
        line = await proxy.log.request()
        found = await level(proxy, tokens("90000/day"))
    assert line["outcome"] == "client_gone"
    assert line["tokens_in"] + (line["tokens_out"] or 0) == found.used > len(WORDS) // 4


async def test_what_no_backend_answered_costs_no_tokens() -> None:
    options = {"tokens": "100000/day", "streams": 1}
    async with Ollama() as sim, running(sim.url, middleware=[{"rate_limit": options}, "retry"]) as proxy:
        sim.fault("reset", route="/api/chat", times=None)
        assert (await ask(proxy.address, "POST", "/api/chat", CHAT)).status == 502
        assert (await ask(proxy.address, "POST", "/api/chat", {**CHAT, "model": "nobody-has-it"})).status >= 400
        assert (await level(proxy, tokens("100000/day"))).used == 0


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    """The ``store`` of a policy file."""
    if request.param == "memory":
        yield "memory"
    else:
        with redis_server() as server:
            yield server.url


async def test_exactly_so_many_streams_run_and_every_end_of_one_frees_its_place(store: str) -> None:
    quota = Quota(ME, streams=5)
    async with (
        Ollama(num_parallel=100) as sim,
        running(sim.url, middleware=["logging", {"rate_limit": {"streams": 5}}], store=store) as proxy,
    ):
        for _ in range(3):
            stalled = sim.fault("stall", route="/api/chat", after=2, times=None)
            clients = [await Client.connect(proxy.address) for _ in range(60)]
            await asyncio.gather(*(client.send(request("POST", "/api/chat", CHAT)) for client in clients))
            heads = await asyncio.gather(*(client.read_head() for client in clients))
            inside = [client for client, head in zip(clients, heads, strict=True) if head.status == 200]
            assert len(inside) == 5
            assert (await level(proxy, quota)).used == 5
            inside[0].hang_up()
            inside[1].hang_up(reset=True)
            await inside[2].read_chunk()
            inside[2].hang_up(reset=True)
            stalled.release()
            for client in inside[3:]:
                while await client.read_chunk():
                    pass
            for client in clients:
                await client.close()
            async with asyncio.timeout(5):
                while (await level(proxy, quota)).used:  # noqa: ASYNC110  (only a look tells)
                    await asyncio.sleep(0)
            sim.clear()


async def test_one_caller_of_100_at_once_gets_what_is_allowed() -> None:
    options = {"requests": ["60/minute", "33/day"], "streams": 50}
    async with Ollama(num_parallel=100) as sim, running(sim.url, middleware=[{"rate_limit": options}]) as proxy:
        answers = await asyncio.gather(*(ask(proxy.address, "POST", "/api/chat", CHAT) for _ in range(100)))
    statuses = [answer.status for answer in answers]
    assert statuses.count(200) == 33
    assert statuses.count(429) == 67
