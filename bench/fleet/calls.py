"""One request of a client, over whichever proxies live, to its end or to where it is lost."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from bench.plan import MODEL
from bench.soak.wire import Broken, Head, Wire, request

Way = Literal["plain", "resumed", "deferred"]

PATHS: Final = ("/api/chat", "/v1/chat/completions")
"""One that answers in NDJSON, one that answers in SSE."""
AGAIN: Final = 0.2
"""Seconds before a client tries again what failed by no fault of its own."""
RESUMING: Final = 45.0
"""Seconds for which a client asks for the rest of an answer."""


@dataclass(slots=True)
class Seen:
    """One request as its client saw it. Times are in seconds of the monotonic clock, 0 for what never came.

    Attributes:
        who: its prompt, which names it on the host as well.
        proxy: the number of the proxy that was asked first.
        head: when the head of an answer came.
        code: status and code of the error, or how the connection ended.
        end: ``whole``; ``broken`` where the answer ends before its terminator, and says so; ``refused`` by a status;
            ``lost`` where no answer came; ``false`` where it looks whole and is not; ``accepted`` by a 202.
        got: the bytes of the answer, as a text of as many characters.
        place: where the answer of a deferred or resumable request is.
        breaks: connections that the client broke; `resumes` those that gave it more of the answer.
    """

    who: str
    tenant: str
    path: str
    way: Way
    proxy: int = 0
    sent: float = 0.0
    head: float = 0.0
    ended: float = 0.0
    code: str = ""
    end: str = "lost"
    got: str = ""
    place: str = ""
    breaks: int = 0
    resumes: int = 0
    more: dict[str, Any] = field(default_factory=dict)


class Caller:
    """Sends requests with the key of one tenant to the proxies at `ports`."""

    def __init__(self, ports: Sequence[int], key: str, rng: random.Random) -> None:
        self._ports = ports
        self._key = key
        self._rng = rng

    async def call(self, seen: Seen, tokens: int, until: float) -> None:
        """Send the request, read its answer, and note all of it in `seen`."""
        fields = {"authorization": f"Bearer {self._key}"}
        if seen.way == "deferred":
            fields |= {"prefer": "respond-async", "idempotency_key": f'"{seen.who}"'}
        breaks = [self._rng.randrange(1, 900) for _ in range(self._rng.randrange(1, 4))]
        seen.sent = time.monotonic()
        try:
            while True:
                try:
                    wire = await self._connect(seen)
                    break
                except OSError:  # a proxy that was killed; who balances the load asks the next one
                    await asyncio.sleep(AGAIN / 4)
            try:
                await self._answer(wire, seen, body(seen, tokens), fields, breaks)
            finally:
                wire.leave(reset=self._rng.random() < 0.5)
        except (Broken, OSError) as error:
            seen.code = seen.code or type(error).__name__
            seen.end = "broken" if seen.head else "lost"
        if seen.end == "broken" and seen.way == "resumed" and seen.place:
            await self.follow(seen, breaks)
        seen.ended = time.monotonic()
        if seen.way == "deferred" and seen.end == "lost" and seen.ended < until:
            await self.call(seen, tokens, until)  # the same, by its key, until somebody says that it is accepted

    async def _connect(self, seen: Seen) -> Wire:
        seen.proxy = self._rng.randrange(len(self._ports))
        return await Wire.connect(self._ports[seen.proxy])

    async def _answer(self, wire: Wire, seen: Seen, data: bytes, fields: Mapping[str, str], breaks: list[int]) -> None:
        await wire.send(request("POST", seen.path, port=self._ports[seen.proxy], body=data, **fields))
        head = await wire.head()
        seen.head = time.monotonic()
        seen.code = str(head.status)
        if head.status == 202:
            seen.end, seen.place = "accepted", head.fields["location"]
            return
        if head.status != 200:
            text = b"".join([part async for part in wire.body(head)])
            seen.end = "refused"
            seen.code = f"{head.status} {head.fields.get('x-error-code', '') or text[:60].decode(errors='replace')}"
            seen.more["retry_after"] = float(head.fields.get("retry-after", "1"))
            return
        if seen.way == "resumed":
            link = head.fields.get("link", "")
            seen.place = link.split(">")[0].removeprefix("<") if 'rel="resume"' in link else ""
        await self._read(wire, head, seen, breaks)

    async def _read(self, wire: Wire, head: Head, seen: Seen, breaks: list[int]) -> None:
        """Read a body to its end, or to where the client breaks the connection."""
        cut = breaks.pop() if breaks and seen.place else None
        start = len(seen.got)
        async for part in wire.body(head):
            seen.got += part.decode("latin-1")
            if cut is not None and len(seen.got) - start >= cut:
                seen.got = seen.got[: start + cut]
                seen.breaks += 1
                raise Broken("by the client")
        seen.end = "whole" if is_whole(seen.got) else "broken" if '"error"' in seen.got[-2000:] else "false"

    async def follow(self, seen: Seen, breaks: list[int]) -> None:
        """Ask any proxy for the rest of the answer, from the first byte that was not seen, until its end is known."""
        seen.sent = seen.sent or time.monotonic()
        until = time.monotonic() + RESUMING
        while seen.end not in ("whole", "false") and time.monotonic() < until:
            try:
                wire = await Wire.connect(self._ports[self._rng.randrange(len(self._ports))])
                try:
                    if await self._rest(wire, seen, breaks):
                        return
                finally:
                    wire.leave(reset=self._rng.random() < 0.5)
            except (Broken, OSError):
                await asyncio.sleep(AGAIN)

    async def _rest(self, wire: Wire, seen: Seen, breaks: list[int]) -> bool:
        """Read the rest; returns whether there is no more to ask for."""
        fields = {"authorization": f"Bearer {self._key}", "range": f"bytes={len(seen.got)}-", "prefer": "wait=20"}
        path = seen.place if seen.place.endswith("/answer") else f"{seen.place}/answer"
        await wire.send(request("GET", path, port=self._ports[0], body=None, **fields))
        head = await wire.head()
        if head.status in (200, 206):
            if head.status == 200:
                seen.got = ""
            elif not head.fields.get("content-range", "").startswith(f"bytes {len(seen.got)}-"):
                seen.end, seen.code = "false", f"206 {head.fields.get('content-range')} for {len(seen.got)}-"
                return True
            seen.resumes += 1
            await self._read(wire, head, seen, breaks)
            return True
        _ = [part async for part in wire.body(head)]
        if head.status == 416:  # nothing is missing, if it is as long as what was seen
            length = head.fields.get("content-range", "").removeprefix("bytes */")
            seen.end = "whole" if is_whole(seen.got) and length == str(len(seen.got)) else "broken"
            seen.code = f"416 {length} for {len(seen.got)}" if seen.end == "broken" else seen.code
            return True
        if head.status in (202, 429, 503):
            await asyncio.sleep(AGAIN)
            return False
        seen.code = f"{head.status} {head.fields.get('x-error-code', '')} for the rest"
        return True

    async def get(self, path: str) -> tuple[int, bytes]:
        """Ask any proxy that lives; raises Broken or OSError."""
        wire = await Wire.connect(self._ports[self._rng.randrange(len(self._ports))])
        try:
            fields = {"authorization": f"Bearer {self._key}"}
            await wire.send(request("GET", path, port=self._ports[0], body=None, **fields))
            head = await wire.head()
            return head.status, b"".join([part async for part in wire.body(head)])
        finally:
            wire.leave(reset=False)


def body(seen: Seen, tokens: int) -> bytes:
    """Return the body of a request whose answer has so many tokens."""
    bound = {"options": {"num_predict": tokens}} if seen.path == "/api/chat" else {"max_tokens": tokens}
    messages = [{"role": "user", "content": seen.who}]
    return orjson.dumps({"model": MODEL, "messages": messages, "stream": True, **bound})


def is_whole(text: str) -> bool:
    """Return whether an answer has its terminator, in whichever of the two forms."""
    tail = text[-2000:].replace('": ', '":')
    return '"done":true' in tail or "data: [DONE]" in tail
