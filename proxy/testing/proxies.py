"""A whole proxy on a free port of this machine, in the test's own event loop."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from config.load import load_bytes
from proxy.app import App
from proxy.pool.probes import Probes
from proxy.server.server import Server, serve
from proxy.telemetry.log_setup import configure
from proxy.testing.log_lines import LogLines
from proxy.wiring import server_options

ANY_PORT: Final = "127.0.0.1:0"


class _NoProbes(Probes):
    def start(self) -> None:
        pass


@dataclass
class TemporaryProxy:
    """A proxy that runs as long as the block that started it.

    Attributes:
        app: its parts.
        server: that listens for it.
        log: what it logged.
    """

    app: App
    server: Server
    log: LogLines

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on."""
        host, _, port = self.server.addresses[0].rpartition(":")
        return host, int(port)

    @property
    def url(self) -> str:
        """Where a client finds it."""
        return f"http://{self.server.addresses[0]}"


@asynccontextmanager
async def temporary_proxy(
    policy: str, *, folder: Path | None = None, listen: str | None = ANY_PORT, probes: bool = True
) -> AsyncIterator[TemporaryProxy]:
    """Serve under a policy file's text.

    Args:
        policy: the text, YAML.
        folder: where relative paths in it start, and where plugins are looked for; the working directory where None.
        listen: what to listen on in place of what the text says, by default a free port; None for what it says.
        probes: ask the backends how they are. Without, they see nothing but what the test sends.

    Raises:
        Invalid: with every mistake in the text.
    """
    changes = {} if listen is None else {"listen": listen}
    loaded = load_bytes(policy.encode(), file="proxy.yaml", folder=folder or Path.cwd(), changes=changes)
    with _logging_as_before():
        log = LogLines()
        configure(log, format="json", level="info")
        app = App(loaded, log)
        if not probes:
            app.watch = _NoProbes(app.pool, every=1.0, timeout=1.0)
        async with serve(app.frame, server_options(app.settings)) as server:
            yield TemporaryProxy(app, server, log)


@contextmanager
def _logging_as_before() -> Iterator[None]:
    """Undo what `configure` does to the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    settings = structlog.get_config() if structlog.is_configured() else None
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(False)
        structlog.reset_defaults()
        if settings is not None:
            structlog.configure(**settings)
