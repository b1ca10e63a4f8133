"""``ollama-proxy doctor``: find present and coming problems of this machine and of the backends in its policy file."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import Final

import httpx
import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from config.addresses import Url
from config.load import Loaded
from config.problems import Invalid
from proxy.app import check
from proxy.commands.doctor_checks import (
    Finding,
    check_certificates,
    check_clock,
    check_files,
    check_secrets,
    check_slots,
    check_version,
)
from proxy.commands.ollama_process import num_parallel
from proxy.commands.remote import fail
from proxy.commands.tables import Aside, console
from proxy.kernel.errors import UpstreamError
from proxy.kernel.quotas import Quota
from proxy.kernel.store import Store, StoreUnavailable
from proxy.pool.backend import Backend
from proxy.pool.backend_api import inspect_backend
from proxy.services.system_clock import SystemClock
from proxy.upstream.resend import send_or_resend
from proxy.upstream.timeouts import NEVER
from proxy.wiring import make_backends, make_store

SIGNS: Final = {"ok": ("✓", "green"), "note": ("·", "blue"), "warn": ("!", "yellow"), "bad": ("✗", "bold red")}
PATIENCE: Final = 5.0
"""Seconds that a backend may take to answer."""


def doctor(loaded: Loaded) -> None:
    """Check this machine and the backends of a policy file, and print the findings; exits with 1 where one is bad."""
    Aside()
    try:
        plan, settings = check(loaded)
        backends, store = make_backends(loaded, settings), make_store(loaded, settings, SystemClock())
    except Invalid as error:
        fail(*map(str, error.problems))
    urls = [entry.url for entry in settings.backends]
    queues = any(link.plugin.use == "queue" for link in plan.links)
    screen = console()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("looking at the backends", total=len(backends))
        look = _look(backends, urls, store, lambda: progress.advance(task), queues=queues)
        remote = asyncio.run(look)
    findings = [
        Finding("ok", "policy file", f"{loaded.file} is fine"),
        check_files(),
        *check_secrets(plan, settings),
        *check_certificates(settings),
        *remote,
    ]
    for finding in findings:
        sign, style = SIGNS[finding.level]
        screen.print(Text.assemble((f"{sign} ", style), (f"{finding.about}: ", "bold"), finding.text))
    if any(finding.level == "bad" for finding in findings):
        raise typer.Exit(1)


async def _look(
    backends: list[Backend], urls: list[Url], store: Store, done: Callable[[], None], *, queues: bool
) -> list[Finding]:
    """Ask all backends and the store at once, and return the findings.

    `urls`: where each backend is. `queues`: whether the chain has the `queue`.
    """
    asked = [_backend(backend, url, done, queues=queues) for backend, url in zip(backends, urls, strict=True)]
    try:
        found = await asyncio.gather(*asked, _store(store))
        return list(chain.from_iterable(found))
    finally:
        await store.aclose()
        for backend in backends:
            await backend.transport.aclose()


async def _backend(backend: Backend, url: Url, done: Callable[[], None], *, queues: bool) -> list[Finding]:
    about = f"backend {backend.name}"
    found = await inspect_backend(backend, timeout=PATIENCE)
    date = None if found.error else await _date(backend)
    parallel = await asyncio.to_thread(_parallel, url)
    done()
    if found.error is not None:
        return [Finding("bad", about, f"{backend.shown}: {found.error}")]

    def findings() -> Iterator[Finding]:
        yield from check_version(about, found.version)
        if not found.models:
            yield Finding("warn", about, "has no models")
        yield from check_slots(about, backend, parallel, queues=queues)
        yield from check_clock(about, date, datetime.now(UTC))

    return list(findings())


def _parallel(url: Url) -> int | str:
    """Return ``OLLAMA_NUM_PARALLEL`` of the Ollama at `url`, or why it is not known."""
    parsed = httpx.URL(url.origin)
    if url.uds is not None:
        return "it listens on a unix socket"
    return num_parallel(parsed.host, parsed.port or (443 if parsed.scheme == "https" else 80))


async def _date(backend: Backend) -> str | None:
    request = httpx.Request(
        "GET",
        backend.url,
        headers=[(b"host", backend.host), *backend.headers],
        stream=httpx.ByteStream(b""),
        extensions={
            "target": b"/api/version",
            "timeout": replace(NEVER, connect=PATIENCE, first_byte=PATIENCE, idle=PATIENCE),
        },
    )
    try:
        response = await send_or_resend(backend.transport, request)
        await response.aclose()
    except UpstreamError:
        return None
    date: str | None = response.headers.get("date")
    return date


async def _store(store: Store) -> list[Finding]:
    if store.url == "memory":
        return [Finding("ok", "store", "counters in this process; they are lost when it ends")]
    try:
        await store.connect()
        await store.look([Quota("doctor", streams=1)])
    except StoreUnavailable as error:
        return [Finding("bad", "store", f"{store.url}: {error}")]
    return [Finding("ok", "store", f"{store.url} answers")]
