"""Follow the primary that Sentinel names.

A primary that Sentinel has deposed may live on, and takes itself for one until Sentinel gets round to telling it, ten
seconds later: what it is given until then is lost. redis-py asks Sentinel for each new connection, but keeps those that
it has. So each owner of connections hears what the Sentinels say, and breaks them when another server is to be the
primary. From the moment when that one is about to be told until it is named, there is no primary to connect to.
"""

import asyncio
import time
from contextlib import suppress
from typing import Any, Final, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as NoConnection

from proxy.stores.redis_caller import FAILURES
from proxy.stores.redis_url import open_storage, shown

log = structlog.get_logger("ollama_proxy.store")

LEAVES: Final = "+failover-state-send-slaveof-noone"
"""The channel on which a Sentinel says that it will tell a replica at once that it is the primary."""
STAYS: Final = "-failover-abort-*"
MOVED: Final = "+switch-master"
"""The channel on which every Sentinel says that another server is the primary."""
LONGEST: Final = 10.0
"""Seconds after which a failover of which nothing was heard any more is taken for over."""
EVERY: Final = 2.0
"""Seconds after which a Sentinel is asked all the same, as a message may get lost."""
AGAIN: Final = 0.25
"""Seconds before a Sentinel that failed is heard again."""


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
        self._following: list[asyncio.Task[None]] = []
        self._at: tuple[str, int] | None = None
        self._moves_until = 0.0
        if self._manager is not None:
            self._discover = self._manager.discover_master
            self._manager.discover_master = self._named

    def follow(self) -> None:
        """Begin to hear what the Sentinels say, where there are any."""
        if self._manager is not None and not self._following:
            loop = asyncio.get_running_loop()
            self._following = [loop.create_task(self._follow(one)) for one in list(self._manager.sentinels)]

    async def aclose(self) -> None:
        """Close all connections, those to Sentinels included."""
        for task in self._following:
            task.cancel()
        if self._following:
            await asyncio.wait(self._following)
        await self.client.aclose()
        for sentinel in self._manager.sentinels if self._manager is not None else ():
            await sentinel.aclose()

    async def _named(self, name: str) -> tuple[str, int]:
        """Return the address that Sentinel names; raises ConnectionError of redis-py while the primary moves."""
        if time.monotonic() < self._moves_until:
            raise NoConnection(f"Sentinel is moving {name}")
        address: tuple[str, int] = await self._discover(name)
        return address

    async def _follow(self, sentinel: Any) -> None:
        """Hear one Sentinel, again where it fails."""
        while True:
            news = sentinel.pubsub()
            try:
                await news.psubscribe(LEAVES, STAYS, MOVED)
                while True:
                    await self._look()
                    message = await news.get_message(ignore_subscribe_messages=True, timeout=EVERY)
                    if message is not None:
                        await self._told(message["channel"].decode(), message["data"].decode().split())
            except FAILURES:
                pass
            finally:
                with suppress(*FAILURES):
                    await news.aclose()
            await asyncio.sleep(AGAIN)

    async def _told(self, channel: str, words: list[str]) -> None:
        """Note what a Sentinel says of our primary, whose name is among the words."""
        pool: Any = self.client.connection_pool
        if pool.service_name not in words:
            return
        if channel == LEAVES:
            self._moves_until = time.monotonic() + LONGEST
            await pool.disconnect(inuse_connections=True)
        else:
            self._moves_until = 0.0

    async def _look(self) -> None:
        """Break all connections, those in use as well, where Sentinel names another primary than before."""
        if time.monotonic() < self._moves_until:
            return
        pool: Any = self.client.connection_pool
        before, self._at = self._at, await self._discover(pool.service_name)
        if before not in (None, self._at):
            log.warning("store_moved", store=self._url, url=_shown(self._at))
            await pool.disconnect(inuse_connections=True)


def _shown(address: Any) -> str:
    host, port = address
    return f"{host}:{port}"
