"""Follow the primary that Sentinel names.

A primary that Sentinel has deposed may live on, and takes itself for one until Sentinel gets round to telling it, ten
seconds later: what it is given until then is lost. redis-py asks Sentinel for each new connection, but keeps those that
it has. So each owner of connections hears what Sentinel says, and breaks them when it names another primary.
"""

import asyncio
from contextlib import suppress
from typing import Any, Final, cast

import structlog
from redis.asyncio import Redis

from proxy.stores.redis_caller import FAILURES
from proxy.stores.redis_url import open_storage, shown

log = structlog.get_logger("ollama_proxy.store")

NEWS: Final = "+switch-master"
"""The channel on which a Sentinel says that it has made another server the primary."""
EVERY: Final = 2.0
"""Seconds after which a Sentinel is asked all the same, as a message may get lost."""
AGAIN: Final = 0.25
"""Seconds before another Sentinel is heard where one fails."""


class Primary:
    """The connections of one storage; where its address names Sentinels, they lead to the primary of now.

    Args:
        url: URL of the server, see `proxy.stores.redis_url`.

    Attributes:
        storage: see `proxy.stores.redis_url.open_storage`.
        client: the client of redis-py, of whichever kind.
    """

    def __init__(self, url: str) -> None:
        self.storage = open_storage(url)
        self.client: Redis = cast(Any, self.storage.bridge).get_connection()
        self._url = shown(url)
        self._manager: Any = getattr(self.storage.bridge, "sentinel", None)
        self._at: tuple[str, int] | None = None
        self._following: asyncio.Task[None] | None = None

    def follow(self) -> None:
        """Begin to hear what Sentinel says, where there is one."""
        if self._manager is not None and self._following is None:
            self._following = asyncio.get_running_loop().create_task(self._follow())

    async def aclose(self) -> None:
        """Close all connections, those to Sentinels included."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
        await self.client.aclose()
        for sentinel in self._manager.sentinels if self._manager is not None else ():
            await sentinel.aclose()

    async def _follow(self) -> None:
        """Hear one Sentinel after the other, each until it fails."""
        while True:
            for sentinel in list(self._manager.sentinels):
                news = sentinel.pubsub()
                try:
                    await news.subscribe(NEWS)
                    while True:
                        await self._move()
                        await news.get_message(ignore_subscribe_messages=True, timeout=EVERY)
                except FAILURES:
                    pass
                finally:
                    with suppress(*FAILURES):
                        await news.aclose()
                await asyncio.sleep(AGAIN)

    async def _move(self) -> None:
        """Break all connections, those in use as well, where Sentinel names another primary than before."""
        pool: Any = self.client.connection_pool
        before, self._at = self._at, await self._manager.discover_master(pool.service_name)
        if before not in (None, self._at):
            log.warning("store_moved", store=self._url, url=_shown(self._at))
            await pool.disconnect(inuse_connections=True)


def _shown(address: Any) -> str:
    host, port = address
    return f"{host}:{port}"
