"""The whole proxy on a real socket, in the test's own event loop, with settings given as arguments."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from proxy.testing import TemporaryProxy, temporary_proxy
from tests.support.log_schema import check_line

Running = TemporaryProxy


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
    async with temporary_proxy(text, folder=folder, listen=None, probes=watched) as proxy:
        yield proxy
    for line in proxy.log.raw:
        check_line(line)
