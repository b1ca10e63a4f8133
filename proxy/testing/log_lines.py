"""The lines that a proxy logs, kept for a test to look at."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson

from proxy.kernel.log_sink import LogSink


class LogLines(LogSink):
    """A sink for log lines that keeps them, and lets a test wait for one.

    Attributes:
        raw: the lines as they were written.
    """

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self._changed = asyncio.Event()

    def write(self, line: bytes) -> None:
        """Keep a line."""
        self.raw.append(line)
        self._changed.set()

    @property
    def events(self) -> list[dict[str, Any]]:
        """All lines, parsed; they must be JSON."""
        return [orjson.loads(line) for line in self.raw]

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The lines of requests that ended; the plugin `logging` writes them."""
        return [event for event in self.events if event["event"] == "request"]

    async def wait_for(self, found: Callable[["LogLines"], bool], timeout: float = 15.0) -> None:
        """Wait until `found` holds; raises AssertionError after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while not found(self):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"the log never said it; it has {self.events}") from None

    async def request(self, number: int = 1) -> dict[str, Any]:
        """Return the line of the `number`th request that ended, counted from 1."""
        await self.wait_for(lambda lines: len(lines.requests) >= number)
        return self.requests[number - 1]
