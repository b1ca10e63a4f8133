"""Run a whole proxy on a free port of this machine, in the event loop of the test."""

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
    """A running proxy; it stops at the end of the ``async with`` block that started it.

    Attributes:
        app: the application, which holds all parts of the proxy.
        server: the server that listens for it.
        log: the lines that the proxy logged.
    """

    app: App
    server: Server
    log: LogLines

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port on which the proxy listens."""
        host, _, port = self.server.addresses[0].rpartition(":")
        return host, int(port)

    @property
    def url(self) -> str:
        """The URL of the proxy, for clients."""
        return f"http://{self.server.addresses[0]}"


@asynccontextmanager
async def temporary_proxy(
    policy: str, *, folder: Path | None = None, listen: str | None = ANY_PORT, probes: bool = True
) -> AsyncIterator[TemporaryProxy]:
    """Run a proxy with the policy file `policy`.

    Args:
        policy: the text of the policy file, in YAML.
        folder: the folder of relative paths in the policy file, and of plugins; None for the working directory.
        listen: the address to listen on, in place of the policy file's; None to keep the policy file's.
        probes: send probes to the backends. Without probes, the backends only get the requests of the test.

    Raises:
        Invalid: the policy file has mistakes; the error lists all of them.
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
    """Restore the logging of the process, which `configure` changes, at the end of the block."""
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
