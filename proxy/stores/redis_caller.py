"""Call a Redis that may be slow, full or unreachable: calls are bounded in time, and fail at once during an outage."""

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
"""Calls at a time, and so connections. A call takes well under a millisecond; more would only wait for our own CPU."""
GRACE: Final = 0.01
"""Seconds that a call gets beyond its time, as the reply may be there and only this process late to read it."""
PROBE_TIMEOUT: Final = 1.0
"""Seconds that a probe may take; a new connection by TLS or a Sentinel may need more than a request should wait."""
PROBE_PAUSE: Final = 0.25
"""Seconds between two probes."""

FAILURES: Final = (RedisError, RedisClusterException, OSError, TimeoutError, RuntimeError)
"""All errors by which redis-py reports a failed call: connection, time, memory, read-only replica, fail-over.
uvloop raises RuntimeError for a closed transport."""

Script = Callable[..., Awaitable[Any]]
"""A script of redis-py (AsyncScript); it is called with `keys` and `args`."""


class RedisCaller:
    """Runs scripts, each within `within` seconds.

    After a failure every call fails at once, while a task probes the server until it works again. The probe is a write,
    as a full or demoted server still answers a ping.

    Args:
        url: URL without credentials, for messages.
        write: writes something to the server.
        within: seconds that a call may take.
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
        """Whether calls are made; False during an outage."""
        return self._probing is None

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | int | float]) -> Any:
        """Return what `script` returns; raises StoreUnavailable."""
        # The time that a call waits for a place does not count: our own work causes it. Where the server causes it, the
        # wait ends when the calls in those places have run out of time.
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
        """Raise TimeoutError after `within` seconds and a grace, which begins when the event loop has time for it."""
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
        """Open every connection, with more time than a call has; a failure counts like that of a call."""
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
            except Exception:  # the client may fail in any way while the server comes back
                await asyncio.sleep(PROBE_PAUSE * random.uniform(0.8, 1.2))
        self._probing = None
        log.info("store_back", store=self.url)
        self._returned()

    async def aclose(self) -> None:
        """Stop probing."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])
