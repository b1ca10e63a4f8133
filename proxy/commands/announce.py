"""The message of a proxy that has started, for people, on stderr: its addresses, backends and chain."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Final, TextIO

from proxy import __version__
from proxy.app import App
from proxy.commands.terminal import say
from proxy.pool.backend_api import inspect_backend

_announcing: Final[set[asyncio.Task[None]]] = set()


def announce(app: App, addresses: Sequence[str], out: TextIO | None = None, *, workers: int = 1) -> None:
    """Ask every backend for its version and models, and print the results. Return before that is done."""
    task = asyncio.get_running_loop().create_task(_announce(app, addresses, out or sys.stderr, workers))
    _announcing.add(task)
    task.add_done_callback(_announcing.discard)


async def _announce(app: App, addresses: Sequence[str], out: TextIO, workers: int = 1) -> None:
    backends = app.pool.backends
    timeout = app.settings.pool.health.timeout
    found = await asyncio.gather(*(inspect_backend(backend, timeout=timeout) for backend in backends))
    scheme = "https" if app.settings.tls else "http"
    shown = [address if address.startswith("unix:") else f"{scheme}://{address}" for address in addresses]
    lines = [f"ollama-proxy {__version__} listens on {', '.join(shown)}"]
    for backend, answer in zip(backends, found, strict=True):
        lines.append(f"  backend {backend.name} at {backend.shown}: {answer}")
    lines.append(f"  chain   {app.plan}")
    if workers > 1:
        lines.append(f"  workers {workers}")
    if page := _page(app, scheme, addresses):
        lines.append(f"  page    {page}")
    say(*lines, out=out)


def _page(app: App, scheme: str, addresses: Sequence[str]) -> str | None:
    """Return the URL of the ops page, None where a browser cannot reach it."""
    listening = app.ops_server.addresses if app.ops_server is not None else addresses
    ports = [address for address in listening if not address.startswith("unix:")]
    return f"{scheme}://{ports[0]}/-/" if ports else None
