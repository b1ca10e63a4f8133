"""A fake Ollama that costs next to nothing: it streams at a given pace and writes the time into each chunk.

A chat, in Ollama's form or OpenAI's, is answered as its options ask: ``num_predict`` chunks, one every ``interval_ms``,
or in one piece where it does not stream. All but the time is precomputed, and one timer drives all streams. Prints its
port when it listens.
"""

import asyncio
import os
import re
import sys
import time
from collections import defaultdict
from typing import Final, cast

import orjson
import uvloop

from bench.plan import DIGITS, HOST, MARK, MODEL

TICK: Final = 0.001
"""Seconds; uvloop's own timers are no finer."""

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def _chunk(document: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(document), document)


def _whole(document: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
    return head % len(document) + document


_STREAM: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
_TIME: Final = b"0" * DIGITS
_BEFORE, _AFTER = _chunk(
    b'{"model":"bench:latest","created_at":"2026-01-31T23:59:59.999999999Z",%b%b",'
    b'"message":{"role":"assistant","content":" word"},"done":false}\n' % (MARK, _TIME)
).split(_TIME)
_EVENTS: Final = _STREAM.replace(b"application/x-ndjson", b"text/event-stream")
_EVENT_BEFORE, _EVENT_AFTER = _chunk(
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,%b%b","model":"bench:latest",'
    b'"choices":[{"index":0,"delta":{"role":"assistant","content":" word"},"finish_reason":null}]}\n\n' % (MARK, _TIME)
).split(_TIME)
_DONE: Final = (
    b'{"model":"bench:latest","created_at":"2026-01-31T23:59:59.999999999Z","message":{"role":"assistant",'
    b'"content":"%b"},"done":true,"done_reason":"stop","total_duration":2000000000,"load_duration":50000000,'
    b'"prompt_eval_count":26,"prompt_eval_duration":100000000,"eval_count":%d,"eval_duration":1850000000}'
)
_SHORT: Final = _whole(_DONE % (b"A short answer.", 5))
_LISTED: Final = {
    "name": MODEL,
    "model": MODEL,
    "modified_at": "2026-01-31T23:59:59Z",
    "size": 4_000_000_000,
    "digest": "ab" * 32,
    "details": {"format": "gguf", "family": "llama", "parameter_size": "8B", "quantization_level": "Q4_K_M"},
}
_FIXED: Final = {
    b"/": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 17\r\n\r\nOllama is running",
    b"/api/version": _whole(b'{"version":"0.33.0"}'),
    b"/api/tags": _whole(orjson.dumps({"models": [_LISTED]})),
    b"/api/ps": _whole(
        orjson.dumps({"models": [_LISTED | {"expires_at": "2036-01-31T23:59:59Z", "size_vram": 4_000_000_000}]})
    ),
}
_MISSING: Final = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 18\r\n\r\n404 page not found"


class Pacer:
    """Writes the chunks of all streams when they are due."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: defaultdict[int, list[Stream]] = defaultdict(list)
        self._tick = 0
        self._started = loop.time()
        self._run()

    def add(self, stream: "Stream") -> None:
        """Have the next chunk of `stream` written one interval from now."""
        self._due[self._tick + stream.ticks].append(stream)

    def _run(self) -> None:
        now = int((self._loop.time() - self._started) / TICK)
        while self._tick <= now:
            for stream in self._due.pop(self._tick, ()):
                if stream.write():
                    self.add(stream)
            self._tick += 1
        self._loop.call_later(TICK, self._run)


class Stream:
    """One streamed answer."""

    __slots__ = ("_after", "_before", "_end", "_fd", "_left", "_transport", "ticks")

    def __init__(self, transport: asyncio.Transport, chunks: int, interval_ms: int, *, events: bool) -> None:
        self._transport = transport
        self._before, self._after = (_EVENT_BEFORE, _EVENT_AFTER) if events else (_BEFORE, _AFTER)
        self._end = b"data: [DONE]\n\n" if events else _DONE % (b"", chunks) + b"\n"
        self._fd = transport.get_extra_info("socket").fileno()
        self._left = chunks
        self.ticks = interval_ms

    def write(self, head: bytes = b"") -> bool:
        """Write the next chunk; False when that was the last, or nobody is there."""
        if self._transport.is_closing():
            return False
        self._left -= 1
        if self._left:
            chunk = b"%b%b%019d%b" % (head, self._before, time.monotonic_ns(), self._after)
            # uvloop's transport writes when its loop comes round, well after the time in the chunk; this leaves now.
            try:
                written = os.write(self._fd, chunk)
            except OSError:
                written = 0
            if written < len(chunk):  # the reader has left, or is so slow that its stream is no use for measuring
                self._transport.abort()
                return False
            return True
        self._transport.write(head + _chunk(self._end) + b"0\r\n\r\n")
        return False


class Backend(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its bases

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        length = _LENGTH.search(self._buffer, 0, end)
        size = end + int(length[1]) if length else end
        if len(self._buffer) >= size:
            method, target, _ = self._buffer.split(b" ", 2)
            body, self._buffer = self._buffer[end:size], self._buffer[size:]
            self._answer(method, target, body)

    def _answer(self, method: bytes, target: bytes, body: bytes) -> None:
        events = target == b"/v1/chat/completions"
        if target != b"/api/chat" and not events:
            answer = _FIXED.get(target, _MISSING)
            self._transport.write(answer[: answer.index(b"\r\n\r\n") + 4] if method == b"HEAD" else answer)
            return
        asked = orjson.loads(body)
        if asked.get("stream") is False:
            self._transport.write(_SHORT)
            return
        options = asked["options"]
        stream = Stream(self._transport, options["num_predict"], options["interval_ms"], events=events)
        if stream.write(_EVENTS if events else _STREAM):
            self._pacer.add(stream)


async def main() -> None:
    """Serve until standard input ends, which it also does when whoever started us is killed."""
    loop = asyncio.get_running_loop()
    pacer = Pacer(loop)
    server = await loop.create_server(lambda: Backend(pacer), HOST, 0, backlog=8192)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(main())
