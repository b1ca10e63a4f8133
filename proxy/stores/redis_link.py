"""The line to a Redis that may be slow, full or gone: no call takes longer than its bound, and none is made in vain."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from redis.exceptions import RedisClusterException, RedisError

from proxy.kernel.store import StoreUnavailable

log = structlog.get_logger("ollama_proxy.store")

PLACES: Final = 8
"""Calls at once, and so connections. Each is done in well under a millisecond; more would only wait for our own CPU."""
GRACE: Final = 0.01
"""Seconds that a call gets beyond its time: the answer may be there, and only this process late to read it."""
PROBE_TIMEOUT: Final = 1.0
"""Seconds a probe may take; a new connection through TLS or a Sentinel may need more than a request should wait."""
PROBE_PAUSE: Final = 0.25
"""Seconds between two probes."""

FAILURES: Final = (RedisError, RedisClusterException, OSError, TimeoutError, RuntimeError)
"""Everything by which redis-py says that it could not do it: connection, time, memory, read-only replica, fail-over.
RuntimeError is uvloop's word for a transport that has been closed."""

Script = Callable[..., Awaitable[Any]]
"""Called with `keys` and `args`; redis-py's AsyncScript."""


class Link:
    """Runs scripts, each within `within` seconds.

    After a failure calls fail at once, while a task of its own tries the server (by a write, as a full or demoted one
    still answers a ping) until that works again.

    Args:
        url: for messages; without credentials.
        write: writes something.
        returned: called when the server is back.
    """

    def __init__(
        self, url: str, write: Callable[[], Awaitable[object]], *, within: float, returned: Callable[[], None]
    ) -> None:
        self.url = url
        self._write = write
        self._within = within
        self._returned = returned
        self._places = asyncio.Semaphore(PLACES)
        self._probing: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        """Whether calls are made at all."""
        return self._probing is None

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | int | float]) -> Any:
        """Return what `script` returns; raises StoreUnavailable."""
        # Waiting for a place is not counted: it is our own work that takes so long then, not the server's. And where it
        # is the server's, it ends when the calls in those places have run out of time.
        async with self._places:
            if self._probing is not None:
                raise StoreUnavailable(f"{self.url} is unreachable")
            try:
                async with self._bound():
                    return await script(keys=keys, args=args)
            except FAILURES as error:
                self._lost(error)
                raise StoreUnavailable(f"{self.url} failed: {type(error).__name__}") from error

    @asynccontextmanager
    async def _bound(self) -> AsyncIterator[None]:
        """Raise TimeoutError after `within` seconds and a grace, which begins when the loop is free to count it."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as bound:
            timer = loop.call_later(self._within, lambda: bound.reschedule(loop.time() + GRACE))
            try:
                yield
            finally:
                timer.cancel()

    def _lost(self, error: Exception) -> None:
        if self._probing is None:
            log.warning("store_lost", store=self.url, error=type(error).__name__, detail=str(error)[:200])
            self._probing = asyncio.create_task(self._until_back())

    async def connect(self) -> None:
        """Open every connection, with more time than a call has for it; what fails counts as the failure of a call."""
        try:
            await asyncio.gather(*(self._try() for _ in range(PLACES)))
        except FAILURES as error:
            self._lost(error)

    async def _try(self) -> None:
        async with asyncio.timeout(PROBE_TIMEOUT):
            await self._write()

    async def _until_back(self) -> None:
        while True:
            try:
                await self._try()
                break
            except Exception:  # whatever the client meets on its way back
                await asyncio.sleep(PROBE_PAUSE * random.uniform(0.8, 1.2))
        self._probing = None
        log.info("store_back", store=self.url)
        self._returned()

    async def aclose(self) -> None:
        """Stop probing."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])
