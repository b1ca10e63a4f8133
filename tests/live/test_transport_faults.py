"""Backends that fail in every way FAULTS knows, in front of the transport, over real sockets.

Each case is one request to a backend that misbehaves once and is well afterwards. What must come out is the project's
error with its facts, the items that came before the fault, and a transport that has nothing left of it.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.kernel.errors import BadAnswer, ConnectFailed, ConnectionLost, Truncated, UpstreamError, UpstreamTimeout
from proxy.upstream.answer import BEHIND, Answer
from proxy.upstream.failures import translate
from proxy.upstream.timeouts import NEVER
from proxy.upstream.transport import Transport
from tests.support.backend import Peer, Script, backend, chunked, eventually, nothing_left, reply

BOTH_LOOPS = True

OK: Final = b"HTTP/1.1 200 OK\r\n"
BODY: Final = b'{"model":"llama3","prompt":"hi"}'
WAIT: Final = b"<wait>"
RESET: Final = b"<reset>"
"""Steps of a misbehaving backend; by default it closes after its last bytes."""


@dataclass
class Fault:
    """What a backend sends, and what must become of it."""

    steps: tuple[bytes, ...]
    error: type[UpstreamError] | None
    items: tuple[bytes, ...] = ()
    timer: str | None = None
    received: bool = True


FAULTS: dict[str, Fault] = {
    "closed before a byte": Fault((), ConnectionLost, received=False),
    "reset before a byte": Fault((RESET,), ConnectionLost, received=False),
    "closed in the head": Fault((OK + b"Conte",), Truncated),
    "reset in the head": Fault((OK + b"Conte", RESET), Truncated),
    "closed behind the head": Fault((chunked(end=b""),), Truncated),
    "death in the middle of a stream": Fault((chunked(b"a", b"b", end=b""),), Truncated, (b"a", b"b")),
    "death in the middle of a chunk": Fault((chunked(b"a", end=b"a\r\nhalf"),), Truncated, (b"a",)),
    "death before the last line end": Fault((chunked(b"a", end=b"0\r\n"),), Truncated, (b"a",)),
    "too short a Content-Length body": Fault((OK + b"Content-Length: 9\r\n\r\nhello",), Truncated, (b"hello",)),
    "clean end without Content-Length": Fault((OK + b"\r\nhello",), None, (b"hello",)),
    "extra bytes": Fault((reply(b"hello") + b"junk",), None, (b"hello",)),
    "extra bytes later": Fault((reply(b"hello"), b"junk"), None, (b"hello",)),
    "an extra answer": Fault((reply(b"hello") + reply(b"poison"),), None, (b"hello",)),
    "more than its Content-Length": Fault((OK + b"Content-Length: 2\r\n\r\nhello",), None, (b"he",)),
    "a body behind 204": Fault((b"HTTP/1.1 204 No Content\r\n\r\nhello",), None),
    "duplicate Content-Length": Fault((OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",), BadAnswer),
    "differing Content-Length": Fault((OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",), BadAnswer),
    "Content-Length and chunked": Fault(
        (OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",), BadAnswer
    ),
    "bad chunk size": Fault((chunked(b"a", end=b"0x1\r\nb\r\n"),), BadAnswer, (b"a",)),
    "bad chunk end": Fault((chunked(b"a", end=b"1\r\nbc\r\n"),), BadAnswer, (b"a",)),
    "other transfer coding": Fault((OK + b"Transfer-Encoding: gzip\r\n\r\nhello",), BadAnswer),
    "junk": Fault((b"\x16\x03\x01\x00\x05hello",), BadAnswer),
    "junk in front": Fault((b"\r\n" + reply(),), BadAnswer),
    "huge head": Fault((OK + b"A: " + b"b" * 70_000 + b"\r\n\r\n",), BadAnswer),
    "many fields": Fault((OK + b"A: b\r\n" * 101 + b"\r\n",), BadAnswer),
    "folded line": Fault((OK + b"A: b\r\n c\r\n\r\n",), BadAnswer),
    "switching protocols": Fault((b"HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",), BadAnswer),
    "silence": Fault((WAIT,), UpstreamTimeout, timer="first_byte", received=False),
    "silence in the head": Fault((OK, WAIT), UpstreamTimeout, timer="first_byte", received=False),
    "silence behind the head": Fault((chunked(end=b""), WAIT), UpstreamTimeout, timer="idle"),
    "silence in the middle": Fault((chunked(b"a", end=b""), WAIT), UpstreamTimeout, (b"a",), timer="idle"),
}


def misbehaving(fault: Fault) -> Script:
    """Return a script whose first connection shows `fault`; the others are well."""
    first = True

    async def script(peer: Peer) -> None:
        nonlocal first
        ill, first = first, False
        await peer.request()
        if not ill:
            await peer.send(reply(b"well"))
            await peer.gone()
            return
        for step in fault.steps:
            if step is WAIT:
                await peer.gone()
            elif step is RESET:
                peer.reset()
            else:
                await peer.send(step)

    return script


def request(url: str, *, first_byte: float = 10.0, idle: float = 10.0) -> httpx.Request:
    return httpx.Request(
        "POST",
        url,
        headers=[(b"host", b"b"), (b"content-length", b"%d" % len(BODY))],
        stream=httpx.ByteStream(BODY),
        extensions={
            "target": b"/api/generate",
            "timeout": replace(NEVER, connect=10.0, first_byte=first_byte, idle=idle, write=10.0),
        },
    )


async def send(transport: Transport, url: str, **timeouts: float) -> Answer:
    response = await transport.handle_async_request(request(url, **timeouts))
    assert isinstance(response.stream, Answer)
    return response.stream


@pytest.mark.parametrize("name", FAULTS)
async def test_faults(name: str) -> None:
    fault = FAULTS[name]
    items: list[bytes] = []
    failure: UpstreamError | None = None
    async with nothing_left(), backend(misbehaving(fault)) as running, Transport(running.url) as transport:
        try:
            async for item in await send(transport, running.url, **({fault.timer: 0.05} if fault.timer else {})):
                items.append(item)
        except httpx.TransportError as error:
            failure = translate(error)
        assert b"".join(items) == b"".join(fault.items)
        assert type(failure) is (fault.error or type(None))
        if failure is not None:
            assert (failure.sent, failure.received) == (True, fault.received)
            assert getattr(failure, "timer", None) == fault.timer
            assert len(str(failure)) < 200
        await running.until(lambda: not running.scripts)
        await eventually(lambda: transport.open == 0)
        well = await send(transport, running.url)
        assert (await well.read(), well.reused) == (b"well", False)


async def test_refused() -> None:
    async with backend(misbehaving(FAULTS["silence"])) as gone:
        url = gone.url
    async with nothing_left(), Transport(url) as transport:
        with pytest.raises(httpx.ConnectError) as caught:
            await send(transport, url)
        failure = translate(caught.value)
        assert isinstance(failure, ConnectFailed)
        assert not failure.sent


# Chunk boundaries


@given(
    chunks=st.lists(st.integers(1, 300) | st.sampled_from([65_535, 65_536, 65_537, 200_000]), max_size=8),
    cuts=st.lists(st.floats(0, 1), max_size=8),
)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
async def test_chunks_arrive_as_they_were_sent(chunks: list[int], cuts: list[float]) -> None:
    bodies = [bytes([65 + number]) * size for number, size in enumerate(chunks)]
    data = chunked(*bodies)
    edges = sorted({0, len(data), *(int(cut * len(data)) for cut in cuts)})
    segments = [data[start:end] for start, end in pairwise(edges)]

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*segments)
        await peer.gone()

    async with backend(script) as running, Transport(running.url) as transport:
        items = [item async for item in await send(transport, running.url)]
        assert transport.idle == 1
    assert b"".join(items) == b"".join(bodies)
    assert all(len(set(item)) == 1 for item in items), "two chunks were merged"
    small = [body for body in bodies if len(body) <= 65_536]
    assert [item for item in items if len(bodies[item[0] - 65]) <= 65_536] == small


async def test_each_chunk_arrives_before_the_next_is_sent() -> None:
    seen = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(end=b""))
        for _ in range(50):
            await peer.send(b"1\r\nx\r\n")
            await seen.wait()
            seen.clear()
        await peer.send(b"0\r\n\r\n")
        await peer.gone()

    async with nothing_left(), backend(script) as running, Transport(running.url) as transport:
        async for item in await send(transport, running.url):
            assert item == b"x"
            seen.set()
        assert transport.idle == 1


# Many at once


async def stream(peer: Peer) -> None:
    """Answer each request with its own kind of trouble, by its target's absence of any: at random."""
    choice = random.random()
    await peer.head()
    if choice < 0.2:
        return
    if choice < 0.4:
        await peer.gone()
    await peer.send(chunked(end=b""))
    for _ in range(random.randrange(20)):
        await peer.send(b"1\r\nx\r\n")
    if choice < 0.6:
        peer.reset()
    elif choice < 0.8:
        await peer.send(b"0\r\n\r\n")
        await stream(peer)
    else:
        await peer.gone()


class Trickle(httpx.AsyncByteStream):
    """A request body that comes slowly, or never ends."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(random.randrange(50)):
            yield b"x" * 1000
            await asyncio.sleep(0)


async def one_of_many(transport: Transport, url: str) -> None:
    plain = random.random() < 0.5
    asked = (
        request(url)
        if plain
        else httpx.Request("POST", url, headers=[(b"transfer-encoding", b"chunked")], stream=Trickle())
    )
    asked.extensions["fresh"] = random.random() < 0.2
    asked.extensions.setdefault("target", b"/")
    response = await transport.handle_async_request(asked)
    assert isinstance(response.stream, Answer)
    try:
        async for _ in response.stream:
            if random.random() < 0.05:
                return
    finally:
        await response.stream.aclose()


@pytest.mark.parametrize("bound", [None, 7])
async def test_nothing_is_left_of_hundreds_that_were_cancelled_at_any_moment(bound: int | None) -> None:
    async with nothing_left(), backend(stream) as running:
        transport = Transport(running.url, max_connections=bound, max_idle=3)
        loop = asyncio.get_running_loop()
        for _ in range(10):
            tasks = [loop.create_task(one_of_many(transport, running.url)) for _ in range(50)]
            for task in tasks:
                loop.call_later(random.uniform(0, 0.03), task.cancel)
                if random.random() < 0.5:
                    loop.call_later(random.uniform(0, 0.03), task.cancel)
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert result is None or isinstance(result, httpx.TransportError | asyncio.CancelledError), repr(result)
            assert bound is None or transport.open <= bound
            assert transport.waiting == 0
        await eventually(lambda: transport.open == transport.idle <= 3)
        await transport.aclose()
        assert (transport.open, transport.idle, transport.waiting) == (0, 0, 0)


async def test_readers_that_stop_hold_little_and_do_not_disturb_the_others() -> None:
    async def script(peer: Peer) -> None:
        while True:
            stalled = b"/stalled" in await peer.request()
            await peer.send(chunked(end=b""))
            for _ in range(5000 if stalled else 100):
                await peer.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
            await peer.send(b"0\r\n\r\n")

    async with nothing_left(), backend(script, limit=2**16) as running, Transport(running.url) as transport:
        stalled = []
        for _ in range(30):
            asked = request(running.url)
            asked.extensions["target"] = b"/stalled"
            response = await transport.handle_async_request(asked)
            assert isinstance(response.stream, Answer)
            stalled.append(response.stream)
        others = [[item async for item in await send(transport, running.url)] for _ in range(10)]
        assert others == [[b"x" * 1024] * 100] * 10
        await eventually(lambda: all(answer._paused for answer in stalled))
        assert all(answer._waiting <= BEHIND + 2 * 256 * 1024 for answer in stalled)
        for answer in stalled:
            await answer.aclose()
        await running.until(lambda: len(running.scripts) == transport.open)
