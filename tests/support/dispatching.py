"""Dispatch over real sockets to simulated hosts, without plugins."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from proxy.kernel.asgi import ASGIApp
from proxy.pool.pool import Pool
from proxy.relay.dispatch import Dispatch
from proxy.simulator import Ollama
from proxy.testing import Answer, call, make_exchange
from proxy.upstream.timeouts import NEVER
from tests.support.options import make_backend, pool_options

CHAT: Final = b'{"model":"llama3.2","messages":[{"role":"user","content":"hi"}]}'


@asynccontextmanager
async def dispatching(*sims: Ollama, **timeouts: float) -> AsyncIterator[Dispatch]:
    pool = Pool(
        [make_backend(f"b{n}", sim.url) for n, sim in enumerate(sims, 1)],
        pool_options(timeouts=replace(NEVER, **timeouts)),
    )
    try:
        yield Dispatch(pool, pool.timeouts, pseudonym="op-test")
    finally:
        await pool.aclose()


async def ask(app: ASGIApp, method: str = "POST", path: str = "/api/chat", body: bytes = CHAT, **more: Any) -> Answer:
    return await call(app, make_exchange(method, path, body=body, **more))
