"""A client whose connection broke gets the rest of its answer: each byte once and in order."""

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.chain.heartbeats import HEARTBEAT
from proxy.simulator import Ollama
from tests.support.backend import eventually
from tests.support.process import Process
from tests.support.proxy import Running, running
from tests.support.redis import redis_server
from tests.support.resuming import CHAT, Speaker, begin, events, lines, read_on, resume_at, speaking
from tests.support.wire import Client, ask, request

WORDS = [f"word {number} " for number in range(120)]


def chain(**options: object) -> list[Any]:
    return ["logging", {"resumable": options} if options else "resumable", "retry"]


async def line_of(proxy: Running, route: str = "/api/chat") -> dict[str, Any]:
    """Wait for the log line of the request that was recorded."""
    await proxy.log.wait_for(lambda log: any(line["route"] == route for line in log.requests))
    return next(line for line in proxy.log.requests if line["route"] == route)


async def test_a_broken_connection_is_resumed_with_the_bytes_that_were_not_seen() -> None:
    speaker = Speaker(lines(WORDS))
    whole = b"".join(speaker.chunks)
    async with speaking(speaker) as host, running(host.url, middleware=chain()) as proxy:
        speaker.go_on(10)
        client, head = await begin(proxy)
        answer = resume_at(head)
        assert answer == f"/-/requests/{head.headers['x-request-id']}/answer"
        seen, _ = await read_on(client, 500)
        client.hang_up(reset=True)
        reading = asyncio.create_task(ask(proxy.address, "GET", answer, headers={"Range": f"bytes={len(seen)}-"}))
        speaker.go_on(len(speaker.chunks))
        rest = await reading
        assert rest.clean
        assert seen + rest.body == whole
        assert (await ask(proxy.address, "GET", answer)).body == whole
        line = await line_of(proxy)
        assert (line["outcome"], line["detached"], line["bytes_out"]) == ("completed", True, len(whole))


async def test_an_answer_that_nobody_reads_on_is_stopped() -> None:
    speaker = Speaker(lines(WORDS))
    async with speaking(speaker) as host, running(host.url, middleware=chain(grace="1s")) as proxy:
        speaker.go_on(10)
        client, head = await begin(proxy)
        await read_on(client, 500)
        client.hang_up()
        await asyncio.wait_for(speaker.gone.wait(), 10)
        line = await line_of(proxy)
        assert (line["outcome"], line["detached"]) == ("client_gone", True)
        assert line["total_ms"] >= 1000
        entry = await proxy.app.journal.get(line["request_id"])
        assert entry is not None
        await eventually(lambda: proxy.app.frame.live == {})
        reply = await ask(proxy.address, "GET", resume_at(head))
        assert b"".join(speaker.chunks[:10]) == reply.body
        assert not reply.clean


async def test_once_it_was_read_on_it_goes_on_to_its_end() -> None:
    """The reader comes within the grace, when there is no byte that it has not seen, and leaves again."""
    speaker = Speaker(lines(WORDS))
    async with speaking(speaker) as host, running(host.url, middleware=chain(grace="1s")) as proxy:
        speaker.go_on(1)
        client, head = await begin(proxy)
        seen, _ = await read_on(client, 1)
        client.hang_up()
        reader = await Client.connect(proxy.address)
        await reader.send(request("GET", resume_at(head), headers={"Range": f"bytes={len(seen)}-"}))
        await reader.read_head()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(speaker.gone.wait(), 1.5)
        reader.hang_up()
        speaker.go_on(len(speaker.chunks))
        line = await line_of(proxy)
        assert line["outcome"] == "completed"
        assert (await ask(proxy.address, "GET", resume_at(head))).body == b"".join(speaker.chunks)


@pytest.mark.parametrize("stays", [True, False])
async def test_delete_ends_it_at_once(stays: bool) -> None:
    speaker = Speaker(lines(WORDS))
    async with speaking(speaker) as host, running(host.url, middleware=chain()) as proxy:
        speaker.go_on(10)
        client, head = await begin(proxy)
        await read_on(client, 500)
        if not stays:
            client.hang_up()
        gone = await ask(proxy.address, "DELETE", f"/-/requests/{head.headers['x-request-id']}")
        assert gone.status < 300
        await asyncio.wait_for(speaker.gone.wait(), 10)
        line = await line_of(proxy)
        assert (line["outcome"], line["error_code"]) == ("cancelled", "cancelled")
        if stays:
            _, clean = await read_on(client, 1_000_000)
            assert not clean
            client.hang_up()


async def test_beyond_its_bound_an_answer_cannot_be_resumed() -> None:
    speaker = Speaker(lines(WORDS))
    whole = b"".join(speaker.chunks)
    async with speaking(speaker) as host, running(host.url, middleware=chain(keep="1KiB")) as proxy:
        speaker.go_on(100)
        client, head = await begin(proxy)
        await read_on(client, 5000)
        entry = await proxy.app.journal.wait_for_change(head.headers["x-request-id"], 1_000_000, 10)
        assert entry is not None
        assert (entry.state, entry.recorded, (entry.error or "").partition(":")[0]) == ("failed", 1024, "record_full")
        at_the_bound = await ask(proxy.address, "GET", resume_at(head), headers={"Range": "bytes=1024-"})
        assert (at_the_bound.status, at_the_bound.headers["x-error-code"]) == (410, "answer_gone")
        before_it = await ask(proxy.address, "GET", resume_at(head), headers={"Range": "bytes=1000-"})
        assert (before_it.body, before_it.clean) == (whole[1000:1024], False)
        client.hang_up()  # nobody could ever read the rest
        await asyncio.wait_for(speaker.gone.wait(), 10)
        line = await line_of(proxy)
        assert (line["outcome"], line["detached"]) == ("client_gone", False)


async def test_the_client_that_stays_gets_an_answer_of_any_length() -> None:
    speaker = Speaker(lines(WORDS))
    speaker.go_on(len(speaker.chunks))
    async with speaking(speaker) as host, running(host.url, middleware=chain(keep="1KiB")) as proxy:
        reply = await ask(proxy.address, "POST", "/api/chat", CHAT)
        assert (reply.chunks, reply.clean) == (speaker.chunks, True)


@pytest.mark.parametrize("body", [{**CHAT, "stream": False}, {**CHAT, "model": "nobody/knows-it"}])
async def test_what_is_no_stream_is_not_recorded(body: dict[str, Any]) -> None:
    async with Ollama() as sim, running(sim.url, middleware=chain()) as proxy:
        reply = await ask(proxy.address, "POST", "/api/chat", body)
        assert "link" not in reply.headers
        assert await proxy.app.journal.get(reply.headers["x-request-id"]) is None


async def test_a_policy_turns_it_off() -> None:
    async with (
        Ollama() as sim,
        running(
            sim.url,
            middleware=["logging", {"auth": {"anonymous": "guests"}}, "resumable"],
            policies={"guests": {"resumable": "off"}},
        ) as proxy,
    ):
        assert "link" not in (await ask(proxy.address, "POST", "/api/chat", CHAT)).headers


async def test_heartbeats_are_a_part_of_the_record() -> None:
    every = {"streaming": {"heartbeat": "1s"}}
    async with Ollama() as sim, running(sim.url, middleware=[*chain()[:-1], every, "retry"]) as proxy:
        stall = sim.fault("stall", times=None)
        client, head = await begin(proxy, "/v1/chat/completions")
        beat = await client.read_chunk()
        assert beat == HEARTBEAT
        stall.release()
        rest, clean = await read_on(client, 1_000_000)
        client.hang_up()
        assert clean
        assert (await ask(proxy.address, "GET", resume_at(head))).body == beat + rest


async def test_a_proxy_that_stops_lets_it_finish() -> None:
    speaker = Speaker(lines(WORDS))
    async with speaking(speaker) as host, running(host.url, middleware=chain()) as proxy:
        speaker.go_on(10)
        client, _ = await begin(proxy)
        await read_on(client, 500)
        client.hang_up()
        await eventually(lambda: not proxy.server._connections())
        draining = asyncio.create_task(proxy.server.drain(10))
        await eventually(lambda: not proxy.server.serving)
        speaker.go_on(len(speaker.chunks))
        assert await draining == 0
        assert (await line_of(proxy))["outcome"] == "completed"


async def test_a_proxy_that_is_killed_leaves_a_record_that_breaks_off(tmp_path: Path) -> None:
    """The next one finds it in the file: what was written is there, and no clean end."""
    speaker = Speaker(lines(WORDS))
    async with speaking(speaker) as host:
        settings = {
            "listen": "127.0.0.1:0",
            "store": f"sqlite:{tmp_path / 'state.db'}",
            "backends": [{"name": "b1", "url": host.url}],
            "middleware": ["resumable", "retry"],
        }
        speaker.go_on(10)
        async with Process.started(tmp_path / "proxy.yaml", settings) as proxy:
            client = await Client.connect(proxy.address)
            await client.send(request("POST", "/api/chat", CHAT))
            answer = resume_at(await client.read_head())
            reader = await Client.connect(proxy.address)
            await reader.send(request("GET", answer))
            await reader.read_head()
            written, clean = await read_on(reader, 500)
            assert not clean
            proxy.process.kill()
            await proxy.process.wait()
            client.hang_up()
            reader.hang_up()
        async with Process.started(tmp_path / "proxy.yaml", settings) as proxy:
            reply = await ask(proxy.address, "GET", answer)
            assert reply.body.startswith(written)
            assert b"".join(speaker.chunks).startswith(reply.body)
            assert not reply.clean
            past = await ask(proxy.address, "GET", answer, headers={"Range": f"bytes={len(reply.body)}-"})
            assert (past.status, past.headers["x-error-code"]) == (410, "answer_gone")


STEPS = st.tuples(st.integers(0, 4), st.floats(0, 1), st.booleans())
"""How many chunks are said, how much of the bytes that are not seen yet is read, and how the connection breaks."""


@pytest.mark.parametrize(("path", "kind"), [("/api/chat", "ndjson"), ("/v1/chat/completions", "sse")])
@settings(max_examples=4, deadline=None)
@given(texts=st.lists(st.text("abc é", min_size=1, max_size=60), min_size=1, max_size=150), data=st.data())
async def test_a_client_that_reconnects_gets_the_exact_bytes_once(
    path: str, kind: str, texts: list[str], data: st.DataObject
) -> None:
    times = data.draw(st.integers(1, 20))
    steps = data.draw(st.lists(STEPS, min_size=times, max_size=times))
    speaker = Speaker(lines(texts)) if kind == "ndjson" else Speaker(events(texts), b"text/event-stream")
    async with speaking(speaker) as host, running(host.url, middleware=chain()) as proxy:
        await reconnect([proxy], path, speaker, steps)


async def test_a_hundred_broken_connections() -> None:
    dice = Random(11)
    speaker = Speaker(lines([f"word {number} " for number in range(400)]))
    steps = [(dice.randrange(5), dice.random(), dice.random() < 0.5) for _ in range(100)]
    async with speaking(speaker) as host, running(host.url, middleware=chain()) as proxy:
        await reconnect([proxy], "/api/chat", speaker, steps)
        assert len(proxy.log.requests) > 90


@pytest.mark.parametrize(("path", "kind"), [("/api/chat", "ndjson"), ("/v1/chat/completions", "sse")])
@settings(max_examples=3, deadline=None)
@given(steps=st.lists(STEPS, min_size=1, max_size=20), data=st.data())
async def test_over_two_proxies_with_one_redis(path: str, kind: str, steps: list[Any], data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.text("abc é", min_size=1, max_size=60), min_size=1, max_size=300))
    speaker = Speaker(lines(texts)) if kind == "ndjson" else Speaker(events(texts), b"text/event-stream")
    with redis_server() as store:
        async with (
            speaking(speaker) as host,
            running(host.url, middleware=chain(), store=store.url) as first,
            running(host.url, middleware=chain(), store=store.url) as second,
        ):
            if not first.app.journal.shared:
                pytest.skip("the journal of this store is not shared")
            await reconnect([first, second], path, speaker, steps)


async def reconnect(proxies: list[Running], path: str, speaker: Speaker, steps: list[tuple[int, float, bool]]) -> None:
    """Get an answer by a connection for each step, each at the next proxy, and assert that it is what was said."""
    whole, said, seen = b"".join(speaker.chunks), 1, b""
    speaker.go_on(1)
    client, head = await begin(proxies[0], path)
    clean = False
    for number, (chunks, share, reset) in enumerate(steps, 1):
        speaker.go_on(chunks)
        said = min(said + chunks, len(speaker.chunks))
        there = sum(map(len, speaker.chunks[:said])) - len(seen)
        got, clean = await read_on(client, int(there * share))
        seen += got
        if clean:
            break
        client.hang_up(reset=reset)
        client = await Client.connect(proxies[number % len(proxies)].address)
        await client.send(request("GET", resume_at(head), headers={"Range": f"bytes={len(seen)}-"}))
        again = await client.read_head()
        if again.status == 416:  # all is there but the end of the connection
            assert again.headers["content-range"] == f"bytes */{len(seen)}"
            break
        assert again.status == 206
    else:
        speaker.go_on(len(speaker.chunks))
        got, clean = await read_on(client, len(whole) + 1)
        seen += got
        assert clean
    assert seen == whole
    await client.close()
