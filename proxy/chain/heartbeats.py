"""Heartbeats: comments in a stream of server-sent events, before its first event.

A CDN in front gives up on an answer that does not begin within its time, while the request waits for a slot or for a
model that loads. So a heartbeat begins the response: status 200, and the Content-Type of such a stream. What comes
afterwards and is no such stream, as an error, becomes the last record of this one, which then ends without its end.

The client's server takes the heartbeats from a task of their own. There is none for a request whose policy has not
chosen heartbeats, and it has ended before the first byte of the answer goes out.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from proxy.chain.late_answer import LateAnswer
from proxy.kernel.asgi import Message, Send, header
from proxy.kernel.errors import Flavor
from proxy.kernel.exchange_parts import FramePart

HEARTBEAT: Final = b": heartbeat\n\n"
"""A comment (HTML standard, section 9.2.6), which clients skip."""


class Heartbeats:
    """Sends heartbeats to one client, until its answer begins.

    Args:
        send: the server's.
        note: the frame's part of the exchange, where each heartbeat is counted.
        every: the seconds before the first heartbeat, and between two.
        start: returns the message that begins the response.
    """

    def __init__(self, send: Send, note: FramePart, *, every: float, start: Callable[[], Message]) -> None:
        self._send = send
        self._note = note
        self._every = every
        self._start = start
        self._sends = self._stops = False
        self._task: asyncio.Task[None] | None = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        """Send heartbeats. A client that does not read holds the next one up, as `send` waits for it."""
        with suppress(OSError):  # other servers raise it where the client has left, and tell the chain too
            while not self._stops:
                await asyncio.sleep(self._every)
                self._sends = True
                if not self._note.heartbeats:
                    await self._send(self._start())
                self._note.heartbeats += 1
                await self._send({"type": "http.response.body", "body": HEARTBEAT, "more_body": True})
                self._sends = False

    def cancel(self) -> None:
        """Stop at once, as the request has ended."""
        task, self._task = self._task, None  # it keeps its frame, and so this object: a cycle
        if task is not None:
            task.cancel()

    async def give_way(self, start: Message, flavor: Flavor) -> LateAnswer | None:
        """Stop, and begin the answer whose first message is `start`, unless a heartbeat has begun the response.

        A heartbeat that is being sent is sent first. Returns what takes the answer's body if the answer cannot go on in
        the stream that has begun.
        """
        self._stops = True
        if self._sends and self._task is not None:
            await asyncio.wait([self._task])
        self.cancel()
        if not self._note.heartbeats:
            await self._send(start)
            return None
        return None if _is_stream(start) else LateAnswer(self._send, flavor, start["status"])


def _is_stream(start: Message) -> bool:
    headers = start["headers"]
    kind = (header(headers, b"content-type") or b"").partition(b";")[0].strip().lower()
    return start["status"] == 200 and kind == b"text/event-stream" and header(headers, b"content-encoding") is None
