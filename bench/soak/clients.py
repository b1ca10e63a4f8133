"""The clients, in a process of their own: each keeps one request under way, of every kind that the proxy has to bear.

It obeys lines on its standard input: ``go``, ``pause`` (answered with a line once every answer has ended and every
connection is closed), and its end, after which it writes what it saw.
"""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import uvloop

from bench.soak.part import say, told
from bench.soak.plan import CHAT, EMBED
from bench.soak.wire import Broken, Head, Wire, request

TOKENS: Final = 24
"""Length of every answer that is read to its end."""
PROMPTS: Final = 16
INVENTED: Final = 3000
"""Models that are asked for at the beginning: more than any part of the proxy remembers the names of."""
LONG: Final = "a long text " * 30_000
SLOW_READ: Final = 1.0
"""Seconds that a slow reader takes nothing."""
ENDS: Final[Mapping[str, bytes]] = {
    "/api/chat": b'"done":true',
    "/v1/chat/completions": b"data: [DONE]",
    "/v1/messages": b"event: message_stop",
}


@dataclass(slots=True)
class Seen:
    """What the clients saw.

    Attributes:
        answers: heads of answers, which each must have a line in the proxy's log.
        asked: requests that were sent whole, or left behind on purpose.
        whole: streams that ended with their terminator.
        broken: streams that honestly broke off.
        refused: answers with an error status, by the status.
        wrong: what must not be, with an example.
    """

    answers: int = 0
    asked: int = 0
    whole: int = 0
    broken: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Clients:
    """All clients of one soak."""

    def __init__(self, port: int, keys: Mapping[str, str], seed: int) -> None:
        self.port = port
        self.keys = [f"Bearer {key}" for name, key in keys.items() if name != "operator"]
        self.rng = random.Random(seed)
        self.seen = Seen()
        self.go = asyncio.Event()
        self.texts: dict[tuple[str, str, str], bytes] = {}
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def paused(self) -> None:
        """Wait until no client has anything under way."""
        self.go.clear()
        await self._idle.wait()

    async def work(self, invented: int) -> None:
        """Be one client, for ever; ask for so many `invented` models first, for the proxy to remember what it will."""
        kinds, weights = zip(*KINDS, strict=True)
        while True:
            await self.go.wait()
            invented -= 1
            self._busy += 1
            self._idle.clear()
            try:
                kind: Kind = invent if invented >= 0 else self.rng.choices(kinds, weights)[0]
                wire = await Wire.connect(self.port)
                try:
                    for _ in range(self.rng.choice((1, 1, 3))):  # some keep their connection
                        await kind(self, wire)
                finally:
                    wire.leave(reset=False)
            except TimeoutError:  # an OSError, too
                self.seen.broken += 1
                self.wrong("nothing came for a minute")
            except (Broken, OSError):
                self.seen.broken += 1
            finally:
                self._busy -= 1
                if not self._busy:
                    self._idle.set()

    def wrong(self, what: str) -> None:
        """Note what must not be."""
        if len(self.seen.wrong) < 50:
            self.seen.wrong.append(what)

    async def ask(self, wire: Wire, method: str, path: str, document: Any = None, **fields: str) -> Head:
        """Send a request and return the head of its answer."""
        self.seen.asked += 1
        body = None if document is None else orjson.dumps(document)
        fields = {"authorization": self.rng.choice(self.keys), **fields}
        await wire.send(request(method, path, port=self.port, body=body, **fields))
        return await self.answered(wire)

    async def answered(self, wire: Wire) -> Head:
        """Return the head of an answer, counted."""
        head = await wire.head()
        self.seen.answers += 1
        if head.status >= 400:
            self.seen.refused[head.status] += 1
        return head

    def conversation(self, path: str, **more: Any) -> dict[str, Any]:
        """Return the body of a chat whose answer is always the same."""
        bound = {"options": {"num_predict": TOKENS}} if path.startswith("/api/") else {"max_tokens": TOKENS}
        prompt = f"question {self.rng.randrange(PROMPTS)}"
        model = CHAT[0]
        return {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": True, **bound, **more}

    def compare(self, path: str, body: Mapping[str, Any], text: bytes) -> None:
        """Hold a whole answer against the first one to the same question: the words are the same, byte for byte."""
        key = (path, body["model"], body["messages"][0]["content"])
        words = b"".join(_words(path, text))
        if self.texts.setdefault(key, words) != words:
            self.wrong(f"{path} {key[2]}: {words!r} where {self.texts[key]!r} was said before")


Kind = Callable[[Clients, Wire], Awaitable[None]]


def _words(path: str, text: bytes) -> list[bytes]:
    """Return the pieces of words in a whole stream."""
    if path == "/api/chat":
        return [orjson.dumps(orjson.loads(line)["message"]["content"])[1:-1] for line in text.splitlines()]
    events = [line[6:] for line in text.split(b"\n") if line.startswith(b"data: {")]
    found: list[bytes] = []
    for event in map(orjson.loads, events):
        delta = event.get("delta") or next((c.get("delta") or {} for c in event.get("choices", ())), {})
        found.append(orjson.dumps(delta.get("content") or delta.get("text") or "")[1:-1])
    return found


async def stream(clients: Clients, wire: Wire) -> None:
    """Read a stream to its end."""
    path = clients.rng.choice((*ENDS, "/api/chat", "/api/chat"))
    body = clients.conversation(path)
    head = await clients.ask(wire, "POST", path, body)
    text = b"".join([chunk async for chunk in wire.body(head)])
    if head.status != 200:
        return
    if ENDS[path] in text:
        clients.seen.whole += 1
        clients.compare(path, body, text)
    elif b"error" not in text:
        clients.wrong(f"{path} ended cleanly without its terminator: {text[-200:]!r}")


async def slow_reader(clients: Clients, wire: Wire) -> None:
    """Read a stream, with a pause."""
    head = await clients.ask(wire, "POST", "/api/chat", clients.conversation("/api/chat"))
    async for _ in wire.body(head):
        await asyncio.sleep(SLOW_READ / TOKENS)


async def short(clients: Clients, wire: Wire) -> None:
    """Ask for an answer in one piece."""
    if clients.rng.random() < 0.5:
        head = await clients.ask(wire, "POST", "/api/embed", {"model": EMBED, "input": ["one", "two"]})
    else:
        head = await clients.ask(wire, "POST", "/api/chat", clients.conversation("/api/chat", stream=False))
    _ = [chunk async for chunk in wire.body(head)]


async def lists(clients: Clients, wire: Wire) -> None:
    """Ask what there is."""
    path = clients.rng.choice(("/api/tags", "/v1/models", "/api/ps", "/api/version", "/"))
    _ = [chunk async for chunk in wire.body(await clients.ask(wire, "GET", path))]


async def large(clients: Clients, wire: Wire) -> None:
    """Send a long conversation."""
    body = clients.conversation("/api/chat")
    body["messages"].append({"role": "user", "content": LONG})
    _ = [chunk async for chunk in wire.body(await clients.ask(wire, "POST", "/api/chat", body))]


async def leaver(clients: Clients, wire: Wire) -> None:
    """Hang up somewhere: in the head, in the body, before the answer, in its middle."""
    clients.seen.asked += 1
    body = orjson.dumps(clients.conversation("/api/chat"))
    fields = {"authorization": clients.rng.choice(clients.keys)}
    whole = request("POST", "/api/chat", port=clients.port, body=body, **fields)
    where = clients.rng.choice(("head", "body", "answer", "stream", "stream", "stream"))
    cut = {"head": 40, "body": len(whole) - 5}.get(where, len(whole))
    await wire.send(whole[:cut])
    if where == "stream":
        left = clients.rng.randrange(1, 6)
        async for _ in wire.body(await clients.answered(wire)):
            left -= 1
            if not left:
                break
    wire.leave(reset=clients.rng.random() < 0.5)
    raise Broken("on purpose")


async def invent(clients: Clients, wire: Wire) -> None:
    """Ask for a model that nobody has heard of."""
    body = {**clients.conversation("/api/chat"), "model": f"model-{clients.rng.randrange(10**9)}"}
    _ = [chunk async for chunk in wire.body(await clients.ask(wire, "POST", "/api/chat", body))]


async def refused(clients: Clients, wire: Wire) -> None:
    """Ask for what is refused, by names that were never heard before."""
    invented = f"{clients.rng.randrange(10**9)}"
    how: list[tuple[str, str, Any, dict[str, str]]] = [
        ("POST", "/api/chat", {**clients.conversation("/api/chat"), "model": f"model-{invented}"}, {}),
        ("POST", "/api/pull", {"model": "llama3.2"}, {}),
        ("GET", f"/path/{invented}", None, {"user-agent": f"agent/{invented}"}),
        ("GET", "/api/tags", None, {"authorization": f"Bearer op_{invented.zfill(12)}_{invented.zfill(32)}"}),
        ("GET", "/-/config", None, {}),
        ("POST", "/api/chat", [invented], {}),
    ]
    method, path, document, fields = clients.rng.choice(how)
    head = await clients.ask(wire, method, path, document, **fields)
    if head.status < 400:
        clients.wrong(f"{method} {path} was answered {head.status}")
    _ = [chunk async for chunk in wire.body(head)]


async def guest(clients: Clients, wire: Wire) -> None:
    """Come without a key, and soon be over the limit."""
    body = orjson.dumps(clients.conversation("/api/chat", stream=False))
    clients.seen.asked += 1
    await wire.send(request("POST", "/api/chat", port=clients.port, body=body))
    _ = [chunk async for chunk in wire.body(await clients.answered(wire))]


KINDS: Final[Sequence[tuple[Kind, int]]] = (
    (stream, 50), (short, 14), (leaver, 12), (lists, 8), (refused, 8), (slow_reader, 3), (large, 3), (guest, 2),
)  # fmt: skip


async def serve(port: int, keys: Mapping[str, str], streams: int, seed: int) -> None:
    """Run until the standard input ends, then write what was seen."""
    clients = Clients(port, keys, seed)
    workers = [asyncio.create_task(clients.work(INVENTED // streams)) for _ in range(streams)]
    async for word in told():
        if word == "go":
            clients.go.set()
        else:
            await clients.paused()
            say({})
    for worker in workers:
        worker.cancel()
    say(clients.seen)


if __name__ == "__main__":
    given = orjson.loads(sys.argv[1])
    uvloop.run(serve(given["port"], given["keys"], given["streams"], given["seed"]))
