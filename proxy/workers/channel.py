"""Questions, answers and news between two processes, over a pair of sockets.

A message is its length, four bytes in network order, and a JSON object: ``{"ask": name, "about": {…}, "n": 7}`` is
answered by ``{"n": 7, "said": …}`` or ``{"n": 7, "failed": "…"}``; ``{"tell": name, "about": {…}}`` is not answered.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Final

import orjson
import structlog

from proxy.kernel.peers import Reply

log = structlog.get_logger("ollama_proxy.workers")

LONGEST: Final = 64 * 2**20
"""Bytes of a message; a longer one ends the channel, as it can only be a mistake."""
BEHIND: Final = 2**20
"""Bytes that may wait for a slow reader before news that may be lost are."""

Hear = Callable[[Mapping[str, Any]], None]


class ChannelError(Exception):
    """A question was not answered: the other process is gone, or could not do it."""


class Channel:
    """One end of the pair.

    Args:
        sock: the connected socket; it belongs to the channel from now on.
        replies: answers questions, by name.
        hears: takes news, by name.
    """

    def __init__(self, sock: socket.socket, replies: Mapping[str, Reply], hears: Mapping[str, Hear]) -> None:
        self._sock = sock
        self._replies = replies
        self._hears = hears
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, opened: Callable[[], None] = lambda: None) -> None:
        """Take messages until the other end is closed.

        Args:
            opened: called once messages can be sent.
        """
        reader, self._writer = await asyncio.open_connection(sock=self._sock)
        opened()
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(4))
                if size > LONGEST:
                    raise ChannelError(f"a message of {size} bytes")
                self._take(orjson.loads(await reader.readexactly(size)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._end()

    async def ask(self, question: str, about: Mapping[str, Any], *, timeout: float) -> Any:
        """Return the answer; raises ChannelError where there is none, TimeoutError where it does not come in time."""
        number = next(self._numbers)
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._send({"ask": question, "about": about, "n": number})
            async with asyncio.timeout(timeout):
                return await future
        finally:
            del self._asked[number]

    def tell(self, name: str, **about: Any) -> None:
        """Send news, if the other end is there."""
        if self._writer is not None and not self._writer.is_closing():
            self._send({"tell": name, "about": about})

    def mention(self, name: str, **about: Any) -> None:
        """Send news that may be lost, if the other end is there and not too far behind."""
        if self._writer is not None and self._writer.transport.get_write_buffer_size() < BEHIND:
            self.tell(name, **about)

    @property
    def closed(self) -> bool:
        """Return whether nothing comes from the other end any more."""
        return self._writer is not None and self._writer.is_closing()

    def close(self) -> None:
        """End `run` at both ends."""
        if self._writer is not None:
            self._writer.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._writer is None or self._writer.is_closing():
            raise ChannelError("the other process is gone")
        data = orjson.dumps(message)
        self._writer.write(len(data).to_bytes(4) + data)

    def _take(self, message: Mapping[str, Any]) -> None:
        if "ask" in message:
            task = asyncio.get_running_loop().create_task(self._answer(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif "tell" in message:
            if (hear := self._hears.get(message["tell"])) is not None:
                hear(message["about"])
        elif (future := self._asked.get(message["n"])) is not None and not future.done():
            if "failed" in message:
                future.set_exception(ChannelError(message["failed"]))
            else:
                future.set_result(message["said"])

    async def _answer(self, message: Mapping[str, Any]) -> None:
        reply, answer = self._replies.get(message["ask"]), {"n": message["n"]}
        try:
            if reply is None:
                raise LookupError(f"nobody answers {message['ask']!r}")
            answer["said"] = await reply(message["about"])
            self._send(answer)
        except ChannelError:
            pass
        except Exception as error:
            log.exception("worker_unresponsive", worker=None, problem=f"no answer to {message['ask']!r}")
            if self._writer is not None and not self._writer.is_closing():
                self._send({"n": message["n"], "failed": f"{type(error).__name__}: {error}"})

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
        for future in self._asked.values():
            if not future.done():
                future.set_exception(ChannelError("the other process is gone"))
        for task in self._tasks:
            task.cancel()

    def __repr__(self) -> str:
        open_ = self._writer is not None and not self._writer.is_closing()
        return f"<Channel {'open' if open_ else 'closed'}, {len(self._asked)} questions>"
