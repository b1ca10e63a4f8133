"""Keep the log lines of a proxy, so that a test can read them."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson

from proxy.kernel.log_sink import LogSink


class LogLines(LogSink):
    """A sink that keeps the log lines it gets; a test can wait for a line.

    Attributes:
        raw: the lines, as bytes.
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
        """All lines, parsed as JSON."""
        return [orjson.loads(line) for line in self.raw]

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The lines of ended requests, which the plugin `logging` writes."""
        return [event for event in self.events if event["event"] == "request"]

    async def wait_for(self, found: Callable[["LogLines"], bool], timeout: float = 15.0) -> None:
        """Wait until `found` returns true; raises AssertionError after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while not found(self):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"the log never had the expected line; it has {self.events}") from None

    async def request(self, number: int = 1) -> dict[str, Any]:
        """Wait for the line of the `number`th ended request, counted from 1, and return it."""
        await self.wait_for(lambda lines: len(lines.requests) >= number)
        return self.requests[number - 1]
