"""A client that breaks its connections and asks for the rest, and one that is told to come later."""

import random
from typing import Any

from bench.fleet.calls import Caller, Seen, is_whole
from proxy.simulator import Ollama
from tests.support.proxy import running

CHAIN: list[Any] = ["logging", "resumable", "defer", "queue"]


def caller(*ports: int) -> Caller:
    return Caller(ports, "no-key", random.Random(1))


async def test_an_answer_whose_connection_breaks_again_and_again_is_whole_in_the_end() -> None:
    async with Ollama("bench", token_delay=0.01) as sim, running(sim.url, middleware=CHAIN) as proxy:
        for path in ("/api/chat", "/v1/chat/completions"):
            seen = Seen("hi", "tenant-0", path, "resumed")
            await caller(proxy.address[1]).call(seen, 20, 0.0)
            assert (seen.end, seen.code) == ("whole", "200")
            assert seen.breaks > 0
            assert seen.resumes >= seen.breaks
            assert seen.got.encode("latin-1") == b"".join(sim.last.sent)


async def test_a_plain_answer_and_a_deferred_one_are_whole() -> None:
    async with Ollama("bench") as sim, running(sim.url, middleware=CHAIN) as proxy:
        plain = Seen("hi", "tenant-0", "/api/chat", "plain")
        await caller(proxy.address[1]).call(plain, 5, 0.0)
        assert (plain.end, plain.place) == ("whole", "")
        deferred = Seen("later", "tenant-0", "/api/chat", "deferred")
        await caller(proxy.address[1]).call(deferred, 5, 0.0)
        assert (deferred.end, deferred.code) == ("accepted", "202")
        read = Seen("later", "tenant-0", "/api/chat", "deferred", place=deferred.place)
        await caller(proxy.address[1]).follow(read, [100])
        assert (read.end, read.breaks) == ("whole", 1)
        assert read.got.encode("latin-1") == b"".join(sim.last.sent)


async def test_a_refusal_is_told_with_its_code() -> None:
    async with Ollama("other") as sim, running(sim.url, middleware=CHAIN) as proxy:
        seen = Seen("hi", "tenant-0", "/api/chat", "plain")
        await caller(proxy.address[1]).call(seen, 5, 0.0)
        assert seen.end == "refused"
        assert seen.code.startswith("404 ")


def test_what_is_whole() -> None:
    assert is_whole('{"done":false}\n{"done":true,"done_reason":"stop"}\n')
    assert is_whole("data: {}\n\ndata: [DONE]\n\n")
    assert not is_whole('{"done":false}\n')
