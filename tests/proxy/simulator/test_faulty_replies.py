import asyncio
import json
import time
from typing import Any

import pytest

from proxy.simulator import Ollama
from proxy.simulator.faults import Kind
from tests.proxy.simulator.client import Wire, ask, chat, encode

BOTH_LOOPS = True

CHAT = encode("POST", "/api/chat", chat(5))


async def struck(kind: Kind, request: bytes = CHAT, **options: Any) -> bytes:
    """Return all that comes for `request` while the fault is armed, up to the end of the connection."""
    async with Ollama() as sim, await Wire.open(sim) as wire:
        sim.fault(kind, **options)
        await wire.send(request)
        return await wire.rest()


async def good(sim: Ollama) -> None:
    """Check that the next request is served well."""
    answer = await ask(sim, "POST", "/api/chat", chat(5))
    assert (answer.status, len(answer.chunks), answer.end) == (200, 6, "clean")


async def test_reset_before_an_answer() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        sim.fault("reset", "/api/chat")
        await wire.send(CHAT)
        with pytest.raises(ConnectionResetError):
            await wire.rest()
        assert (sim.last.state, sim.last.status, sim.last.fault) == ("failed", None, "reset")
        assert (sim.counters.tokens_generated, sim.counters.cancelled) == (0, 0)
        await good(sim)


@pytest.mark.parametrize("after", [1, 3, 6])
async def test_reset_after_some_chunks(after: int) -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        sim.fault("reset", "/api/chat", after=after)
        await wire.send(CHAT)
        answer = await wire.read()
        assert (len(answer.chunks), answer.end) == (after, "reset")
        await good(sim)


async def test_reset_after_more_chunks_than_there_are_never_strikes() -> None:
    async with Ollama() as sim:
        sim.fault("reset", "/api/chat", after=7)
        await good(sim)


@pytest.mark.parametrize("after", [0, 1, 4])
async def test_close_without_the_end_of_the_body(after: int) -> None:
    data = await struck("close", after=after)
    assert data.count(b'"done":') == after
    assert not data.endswith(b"0\r\n\r\n")
    assert bool(data) == bool(after)


@pytest.mark.parametrize("kind", ["close", "reset"])
async def test_the_head_may_go_first(kind: Kind) -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        sim.fault(kind, head=True)
        await wire.send(CHAT)
        answer = await wire.read()
        assert (answer.status, b"".join(answer.chunks)) == (200, b"")
        assert answer.end == {"close": "cut", "reset": "reset"}[kind]


async def test_a_body_with_a_length_is_cut_too() -> None:
    data = await struck("close", encode("GET", "/api/version"), head=True)
    assert data.endswith(b"\r\n\r\n")
    assert b"Content-Length: 20" in data


@pytest.mark.parametrize("after", [0, 2])
async def test_a_stall_lasts_until_it_is_released(after: int) -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        fault = sim.fault("stall", after=after)
        await wire.send(CHAT)
        await sim.wait_for(lambda: fault.hits == 1 and sim.last.sent_chunks == after)
        assert (sim.counters.bytes_out > 0) == (after > 0)
        assert (sim.last.sent_chunks, sim.last.state) == (after, "open")
        fault.release()
        assert (await wire.read()).end == "clean"
        assert sim.last.state == "done"


async def test_a_stall_ends_by_itself() -> None:
    async with Ollama() as sim:
        sim.fault("stall", after=1, delay=0.05)
        begun = time.monotonic()
        await good(sim)
        assert time.monotonic() - begun >= 0.05


async def test_a_client_may_leave_in_a_stall() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        fault = sim.fault("stall", after=2)
        await wire.send(CHAT)
        await sim.wait_for(lambda: fault.hits == 1 and sim.last.sent_chunks == 2)
        wire.hang_up(reset=True)
        await sim.wait_for(lambda: sim.counters.cancelled == 1)
        assert sim.counters.generating == 0


@pytest.mark.parametrize("after", [0, 3])
async def test_truncation_cuts_a_chunk(after: int) -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        sim.fault("truncate", after=after)
        await wire.send(CHAT)
        answer = await wire.read()
        assert answer.end == "cut"
        assert len(answer.chunks) == after + 1
        with pytest.raises(json.JSONDecodeError):
            json.loads(answer.chunks[-1])


@pytest.mark.parametrize("after", [0, 3, 5])
async def test_a_clean_end_without_the_terminator(after: int) -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        sim.fault("end", after=after)
        await wire.send(CHAT)
        answer = await wire.read()
        assert (len(answer.chunks), answer.end) == (after, "clean")
        assert all(not line["done"] for line in answer.lines())
        assert (await wire.ask("GET", "/")).status == 200


@pytest.mark.parametrize(("delta", "end"), [(10, "cut"), (0, "clean"), (-10, "clean")])
@pytest.mark.parametrize("target", ["/api/chat", "/api/show"])
async def test_wrong_lengths(target: str, delta: int, end: str) -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        sim.fault("length", delta=delta)
        await wire.send(encode("POST", target, chat(5)))
        answer = await wire.read()
        real = len(sim.last.answer)
        assert int(answer.headers["content-length"]) == real + delta
        assert (len(answer.body), answer.end) == (real + min(delta, 0), end)
        if delta < 0:
            assert await wire.reader.readexactly(10) == sim.last.answer[-10:]


async def test_two_lengths() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        sim.fault("duplicate_length", delta=1)
        await wire.send(CHAT)
        lengths = [int(value) for name, value in (await wire.head()).fields if name == "Content-Length"]
        assert lengths == [len(sim.last.answer), len(sim.last.answer) + 1]


@pytest.mark.parametrize("delay", [0.0, 0.01])
@pytest.mark.parametrize("request_", [CHAT, encode("GET", "/api/version")], ids=["chunked", "length"])
async def test_extra_bytes(request_: bytes, delay: float) -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        sim.fault("extra", data=b"HTTP/1.1 666 Evil\r\n\r\n", delay=delay)
        await wire.send(request_)
        answer = await wire.read()
        assert (answer.status, answer.end, answer.body) == (200, "clean", sim.last.answer)
        assert (await wire.head()).status == 666
        assert sim.last.state == "done"


async def test_junk() -> None:
    assert await struck("junk") == b"\x16\x03\x01 this is not HTTP\r\n\r\n"
    assert await struck("junk", data=b"HTTP/9.9 nope\r\n") == b"HTTP/9.9 nope\r\n"


async def test_huge_heads() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        sim.fault("huge_head", size=1000, count=500)
        await wire.send(CHAT)
        assert len(await wire.reader.readuntil(b"\r\n\r\n")) > 500_000


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/api/chat", {"error": "boom"}),
        ("/v1/chat/completions", {"error": {"message": "boom", "type": "api_error", "param": None, "code": None}}),
        ("/v1/messages", {"type": "error", "error": {"type": "api_error", "message": "boom"}}),
    ],
)
async def test_statuses_speak_the_flavor(target: str, body: dict[str, Any]) -> None:
    async with Ollama() as sim:
        sim.fault("status", status=502, message="boom", headers=((b"Retry-After", b"7"),))
        answer = await ask(sim, "POST", target, chat())
        got = answer.json()
        got.pop("request_id", None)
        assert (answer.status, answer.headers["retry-after"], got) == (502, "7", body)


async def test_statuses_with_a_body_of_their_own() -> None:
    async with Ollama() as sim:
        sim.fault("status", status=404, body=b"not here")
        answer = await ask(sim, "POST", "/api/chat", chat())
        assert (answer.status, answer.body) == (404, b"not here")


async def test_busy_has_two_spaces() -> None:
    async with Ollama() as sim:
        sim.fault("busy")
        answer = await ask(sim, "POST", "/api/chat", chat())
        text = "server busy, please try again.  maximum pending requests exceeded"
        assert (answer.status, answer.json()) == (503, {"error": text})
        assert "retry-after" not in answer.headers


async def test_redirects() -> None:
    async with Ollama() as sim:
        sim.fault("redirect", location="http://elsewhere/")
        answer = await ask(sim, "POST", "/api/chat", chat())
        assert (answer.status, answer.headers["location"]) == (307, "http://elsewhere/")


async def test_the_runner_dies_before_the_first_token() -> None:
    async with Ollama() as sim:
        sim.fault("error", message="llama runner process has terminated")
        answer = await ask(sim, "POST", "/api/chat", chat())
        assert (answer.status, answer.json()) == (500, {"error": "llama runner process has terminated"})


@pytest.mark.parametrize("after", [1, 5])
async def test_the_runner_dies_in_mid_stream(after: int) -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        sim.fault("error", after=after, message="it broke")
        answer = await wire.ask("POST", "/api/chat", chat(5))
        assert (answer.status, len(answer.chunks), answer.end) == (200, after + 1, "clean")
        assert answer.lines()[-1] == {"error": "it broke"}
        assert (await wire.ask("GET", "/")).status == 200


async def test_the_runner_dies_in_an_answer_that_is_not_streamed() -> None:
    async with Ollama() as sim:
        sim.fault("error", after=2)
        answer = await ask(sim, "POST", "/api/chat", chat(5, stream=False))
        assert (answer.status, answer.json()) == (500, {"error": "the simulated runner failed"})


@pytest.mark.parametrize(
    "options", [{"every": 1}, {"every": 7}, {"at": (1, 16, 17, 100, 101)}, {"seed": 3}, {"every": 50, "at": (3,)}]
)
async def test_splitting_changes_no_byte(options: dict[str, Any]) -> None:
    async with Ollama() as sim:
        sim.fault("split", **options)
        answer = await ask(sim, "POST", "/api/chat", chat(5))
        assert (answer.chunks, answer.end) == (sim.last.sent, "clean")


async def test_split_pieces_come_apart() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        sim.fault("split", at=(9, 200), delay=0.02)
        await wire.send(CHAT)
        async with asyncio.timeout(5):
            assert await wire.reader.read(65_536) == b"HTTP/1.1 "
            assert len(await wire.reader.read(65_536)) == 191


async def test_informational_responses() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        sim.fault("informational", status=103, headers=((b"Link", b"</x>"),), count=2)
        await wire.send(CHAT)
        assert [(await wire.head()).status for _ in range(2)] == [103, 103]
        assert (await wire.read()).status == 200


async def test_chunk_extensions_and_trailers() -> None:
    assert (await struck("chunk_extensions", CHAT.replace(b"Host", b"Connection: close\r\nHost"))).count(
        b";name=value"
    ) == 6
    data = await struck("trailers", CHAT.replace(b"Host", b"Connection: close\r\nHost"), headers=((b"X-T", b"1"),))
    assert data.endswith(b"\r\n0\r\nX-T: 1\r\n\r\n")


async def test_slow_accepts() -> None:
    async with Ollama() as sim:
        sim.fault("slow_accept", delay=0.05)
        begun = time.monotonic()
        await good(sim)
        assert time.monotonic() - begun >= 0.05


async def test_scripts_are_played() -> None:
    async with Ollama() as sim, await Wire.open(sim) as wire:
        sim.script(
            b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 2\r\n\r\n", b"hi", route="/api/chat", times=2, finish="keep"
        )
        for _ in range(2):
            assert (await wire.ask("POST", "/api/chat", chat())).body == b"hi"
        assert len((await wire.ask("POST", "/api/chat", chat(2))).chunks) == 3


async def test_scripts_may_end_in_several_ways() -> None:
    async with Ollama() as sim:
        sim.script(b"abc")
        sim.script(b"abc", finish="reset")
        sim.script(b"abc", finish="hang")
        async with await Wire.open(sim) as wire:
            await wire.send(CHAT)
            assert await wire.rest() == b"abc"
        async with await Wire.open(sim) as wire:
            await wire.send(CHAT)
            assert await wire.reader.readexactly(3) == b"abc"
            with pytest.raises(ConnectionResetError):
                await wire.rest()
        async with await Wire.open(sim) as wire:
            await wire.send(CHAT + CHAT)
            assert await wire.reader.readexactly(3) == b"abc"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await wire.reader.read(1)
        await sim.wait_for(lambda: sim.counters.connections_open == 0)
        assert (len(sim.requests), sim.counters.cancelled) == (4, 1)
