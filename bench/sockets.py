"""What a frame of a WebSocket costs beside a chunk of a stream over HTTP: ``python -m bench.sockets``.

Both carry the same answers, of the same host, at the same pace, through the same chain. One after the other, several
times over, on a fresh process each time: a thousand streams are held, and the proxy's CPU time for each chunk, or
frame, and its memory for each stream are told.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, Literal

import orjson
import uvloop

from bench.meter import cpu_ns, rss_bytes
from bench.plan import HOST, MARK, MODEL
from bench.targets import Target, backend, make_key, proxy, variants

Way = Literal["http", "websocket"]
PATHS: Final = {"lines": "/api/chat", "events": "/v1/chat/completions"}
WARM_UP: Final = 20
PATIENCE: Final = 30.0
_KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
_NO_MASK: Final = bytes(4)


@dataclass(frozen=True, slots=True)
class Cost:
    """What was measured: CPU time in nanoseconds for each chunk or frame, memory in bytes for each stream."""

    chunk: float
    memory: float
    chunks: int


class Client(asyncio.Protocol):
    """One stream: it asks, and counts what has the mark of a chunk."""

    def __init__(self, asks: bytes, then: bytes) -> None:
        self._then = then
        self._asks = asks
        self.chunks = 0
        self.begun = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's is none by its bases
        self.transport.write(self._asks)

    def data_received(self, data: bytes) -> None:
        if self._then and b"\r\n\r\n" in data:
            self.transport.write(self._then)
            self._then = b""
        self.chunks += data.count(MARK)
        if self.chunks and not self.begun.done():
            self.begun.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.begun.done():
            self.begun.set_exception(ConnectionError("the proxy closed a stream before its first chunk"))


def client(way: Way, path: str, key: str, body: bytes) -> Client:
    """Return a client of one stream."""
    head = f"{path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {key}\r\n"
    if way == "http":
        fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return Client(f"POST {head}{fields}".encode() + body, b"")
    fields = (
        f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_KEY}\r\n\r\n"
    )
    return Client(f"GET {head}{fields}".encode(), b"\x81\xfe" + len(body).to_bytes(2) + _NO_MASK + body)


async def measure(target: Target, way: Way, path: str, key: str, streams: int, seconds: float, pace_ms: int) -> Cost:
    """Hold `streams` streams with a chunk every `pace_ms`, and measure for `seconds` once all run."""
    loop = asyncio.get_running_loop()
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "Why is the sky blue?"}], "stream": True}
    body = orjson.dumps({**chat, "options": {"num_predict": 1_000_000, "interval_ms": pace_ms}})
    clients: list[Client] = []

    async def hold(number: int) -> None:
        for start in range(0, number, 50):
            more = [client(way, path, key, body) for _ in range(min(50, number - start))]
            for one in more:
                await loop.create_connection(lambda one=one: one, HOST, target.port)  # type: ignore[misc]
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(one.begun for one in more))
            clients.extend(more)

    await hold(WARM_UP)
    empty = rss_bytes(target.pids)
    await hold(streams)
    before, counted = cpu_ns(target.pids), sum(one.chunks for one in clients)
    await asyncio.sleep(seconds)
    used, chunks = cpu_ns(target.pids) - before, sum(one.chunks for one in clients) - counted
    full = rss_bytes(target.pids)
    for one in clients:
        one.transport.abort()
    return Cost(used / max(1, chunks), (full - empty) / streams, chunks)


def compare(
    streams: int, seconds: float, pace_ms: int, rounds: int, say: Callable[[str], None], *, chain: str = "full"
) -> dict[str, dict[Way, Cost]]:
    """Measure both ways of both forms, `rounds` times, and return the medians."""
    found: dict[str, dict[Way, list[Cost]]] = {form: {"http": [], "websocket": []} for form in PATHS}
    bare, full, _ = variants()
    with tempfile.TemporaryDirectory(prefix="ollama-proxy-bench-") as name, backend() as host:
        key = make_key(Path(name))
        for number in range(rounds):
            for form, path in PATHS.items():
                ways: tuple[Way, ...] = ("http", "websocket") if number % 2 else ("websocket", "http")
                for way in ways:
                    with proxy(full if chain == "full" else bare, host, Path(name), key) as target:
                        cost = uvloop.run(measure(target, way, path, key, streams, seconds, pace_ms))
                    found[form][way].append(cost)
                    say(_line(f"round {number + 1}, {form} over {way}", cost))
    return {form: {way: _median(costs) for way, costs in by_way.items()} for form, by_way in found.items()}


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(
        median(cost.chunk for cost in costs),
        median(cost.memory for cost in costs),
        sum(cost.chunks for cost in costs),
    )


def _line(what: str, cost: Cost) -> str:
    return f"{what}: {cost.chunk / 1000:.2f} µs a chunk, {cost.memory / 1024:.1f} KiB a stream, {cost.chunks} chunks"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="bench.sockets", description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--pace", type=int, default=200, help="milliseconds between the chunks of a stream")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chain", choices=("bare", "full"), default="full")
    options = parser.parse_args(arguments)
    found = compare(options.streams, options.seconds, options.pace, options.rounds, print, chain=options.chain)
    for form, costs in found.items():
        ratio = costs["websocket"].chunk / costs["http"].chunk
        print(_line(f"{form} over http", costs["http"]))
        print(_line(f"{form} over websocket", costs["websocket"]), f"({ratio:.2f} ×)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
