"""The clients, in a process of their own: each asks, reads the answer to its end, thinks, and asks again.

Arguments: the port, the number of clients, the seconds, the seed. It writes what was seen as one line of JSON.
"""

import asyncio
import random
import sys
import time
from typing import Any, Final, Literal

import orjson
import uvloop

from bench.soak.part import say
from bench.soak.wire import Broken, Head, Wire, request

End = Literal["whole", "cut", "failed", "false"]

THINKING: Final = (0.2, 1.5)
"""Seconds that a client waits between two requests."""
MESSAGES: Final = [{"role": "user", "content": "hi"}]
REQUESTS: Final[list[tuple[str, dict[str, Any]]]] = [
    ("/api/chat", {"model": "llama3.2", "messages": MESSAGES}),
    ("/api/chat", {"model": "qwen3", "messages": MESSAGES, "stream": False}),
    ("/api/generate", {"model": "qwen3", "prompt": "hi"}),
    ("/v1/chat/completions", {"model": "llama3.2", "messages": MESSAGES, "stream": True}),
    ("/v1/messages", {"model": "llama3.2", "messages": MESSAGES, "stream": True, "max_tokens": 8}),
    ("/api/embed", {"model": "nomic-embed-text", "input": "hi"}),
    ("/api/show", {"model": "llama3.2"}),
]
TERMINATORS: Final = (b'"done":true', b"data: [DONE]", b"message_stop")
ERRORS: Final = (b'{"error":', b"event: error")


class Caller:
    """One client; `seen` takes a row for each request: path, begin, end, how it ended, and why."""

    def __init__(self, port: int, rng: random.Random, seen: list[tuple[str, float, float, End, str]]) -> None:
        self._port = port
        self._rng = rng
        self._seen = seen
        self._wire: Wire | None = None

    async def work(self, until: float) -> None:
        """Ask again and again."""
        await asyncio.sleep(self._rng.uniform(0, THINKING[1]))
        while time.monotonic() < until:
            path, body = self._rng.choice(REQUESTS)
            began = time.monotonic()
            end, why = await self._ask(path, body)
            self._seen.append((path, began, time.monotonic(), end, why))
            await asyncio.sleep(self._rng.uniform(*THINKING))
        self._leave()

    async def _ask(self, path: str, body: dict[str, Any]) -> tuple[End, str]:
        head: Head | None = None
        text = b""
        try:
            self._wire = self._wire or await Wire.connect(self._port)
            await self._wire.send(request("POST", path, port=self._port, body=orjson.dumps(body)))
            head = await self._wire.head()
            async for part in self._wire.body(head):
                text += part
        except (Broken, OSError) as error:  # TimeoutError is one of them
            self._leave()
            if head is None or head.status != 200:
                return "failed", type(error).__name__
            return "cut", type(error).__name__
        if head.fields.get("connection", "").lower() == "close":
            self._leave()
        if head.status != 200:
            said = " ".join(text[:80].decode(errors="replace").split())
            return "failed", f"{head.status} {head.fields.get('x-error-code', '')} {said}"
        return ending(head, text)

    def _leave(self) -> None:
        if self._wire is not None:
            self._wire.leave(reset=False)
            self._wire = None


def ending(head: Head, text: bytes) -> tuple[End, str]:
    """Return how an answer ended that ended as HTTP says."""
    kind = head.fields.get("content-type", "")
    if kind.startswith(("application/x-ndjson", "text/event-stream")):
        tail = text[-2000:].replace(b'": ', b'":')
        if any(terminator in tail for terminator in TERMINATORS):
            return "whole", ""
        return ("cut", "error line") if any(error in tail for error in ERRORS) else ("false", repr(text[-200:]))
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError:
        return "false", repr(text[-200:])
    if not isinstance(said, dict) or "error" in said or said.get("done") is False:
        return "false", repr(text[-200:])
    return "whole", ""


async def serve(port: int, clients: int, seconds: float, seed: int) -> None:
    """Be all the clients for so many seconds, then write what was seen."""
    seen: list[tuple[str, float, float, End, str]] = []
    until = time.monotonic() + seconds
    callers = [Caller(port, random.Random(seed * 1000 + number), seen) for number in range(clients)]
    await asyncio.gather(*(caller.work(until) for caller in callers))
    say(seen)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
