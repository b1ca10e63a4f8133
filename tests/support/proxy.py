"""The whole proxy on a real socket, in the test's own event loop, in front of simulated hosts."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from proxy.app import App
from proxy.kernel.log_sink import LogSink
from proxy.pool.probes import Probes
from proxy.server.server import Server, serve
from proxy.telemetry.log_setup import configure
from proxy.wiring import server_options
from tests.support.log_schema import check_line
from tests.support.policy import load_text


class Lines(LogSink):
    """A log sink that keeps the lines and lets a test wait for one."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self._changed = asyncio.Event()

    def write(self, line: bytes) -> None:
        self.raw.append(line)
        self._changed.set()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.raw]

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The access lines."""
        return [event for event in self.events if event["event"] == "request"]

    async def wait_for(self, found: Callable[["Lines"], bool], timeout: float = 5.0) -> None:
        try:
            async with asyncio.timeout(timeout):
                while not found(self):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"the log never said it; it has {self.events}") from None

    async def request(self, number: int = 1) -> dict[str, Any]:
        """Return the access line of the `number`th request that ended, counted from 1."""
        await self.wait_for(lambda lines: len(lines.requests) >= number)
        return self.requests[number - 1]


class _Blind(Probes):
    def start(self) -> None:
        pass


@dataclass
class Running:
    """A running proxy."""

    app: App
    server: Server
    log: Lines

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.server.addresses[0].rpartition(":")
        return host, int(port)

    @property
    def url(self) -> str:
        return f"http://{self.server.addresses[0]}"


@asynccontextmanager
async def running(
    *backends: str | Mapping[str, Any],
    middleware: Sequence[object] = ("logging", "retry"),
    folder: Path | None = None,
    listen: str = "127.0.0.1:0",
    watched: bool = False,
    **settings: object,
) -> AsyncIterator[Running]:
    """Serve with the given settings; a backend given as text is a URL and is named ``b1``, ``b2``, …

    It logs at debug level, as no line may have a credential in it even then: `check_line` looks for them.
    Backends are asked how they are only where `watched`, so that everything they see comes from the test's requests.
    """
    entries = [
        {"name": f"b{number}", "url": backend} if isinstance(backend, str) else dict(backend)
        for number, backend in enumerate(backends, 1)
    ]
    text = yaml.safe_dump(
        {"log": {"level": "debug"}, "listen": listen, "backends": entries, "middleware": list(middleware), **settings},
        sort_keys=False,
    )
    lines = Lines()
    configure(lines, format="json", level="info")
    app = App(load_text(text, folder=folder), lines)
    if not watched:
        app.watch = _Blind(app.pool, every=1.0, timeout=1.0)
    async with serve(app.frame, server_options(app.settings)) as server:
        yield Running(app, server, lines)
    for line in lines.raw:
        check_line(line)
