"""News of a journal in Redis: one subscription for a process, by which scripts wake those who wait."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from proxy.journal.waiting import Bell
from proxy.stores.redis_caller import FAILURES

AGAIN: Final = 0.25
"""Seconds before a subscription that broke is made anew."""
CONFIRMED: Final = 1.0
"""Seconds that the server gets to confirm a subscription, before its news are not counted on."""
ALWAYS: Final = "ollama-proxy:journal:nothing"
"""A channel without news, as a subscription cannot be of none."""
KEPT: Final = 256
"""Channels that stay subscribed although nobody waits for them at the moment: a reader waits again and again."""


class News:
    """Rings bells by what is published.

    Messages are a convenience: who waits looks by itself from time to time, and seldom only while the subscription is
    known to work. So a message that a fail-over has lost delays, and hangs nobody.

    Args:
        client: a client of redis-py, of whichever kind.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._pubsub: Any = None
        self._bells: dict[str, set[Bell]] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        self._confirmed: dict[str, asyncio.Event] = {}
        self._task: asyncio.Task[None] | None = None

    def hears(self, channel: str) -> bool:
        """Whether the server has confirmed the subscription of a channel."""
        confirmed = self._confirmed.get(channel)
        return confirmed is not None and confirmed.is_set()

    @asynccontextmanager
    async def bell(self, channel: str) -> AsyncIterator[Bell]:
        """Hold a bell that rings at each message of a channel; it is subscribed already, or cannot be for now."""
        bell = Bell()
        self._bells.setdefault(channel, set()).add(bell)
        self._idle.pop(channel, None)
        try:
            await self._subscribe(channel)
            yield bell
        finally:
            self._bells[channel].discard(bell)
            if not self._bells[channel]:
                del self._bells[channel]
                self._idle[channel] = None
                await self._forget()

    def renew(self) -> None:
        """Subscribe anew: the server was lost, and the connection may be to one that is none any more."""
        if self._task is not None:
            self._task.cancel()
            self._doubt()
            self._task = asyncio.get_running_loop().create_task(self._listen(self._task))

    async def aclose(self) -> None:
        """End the subscription."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _subscribe(self, channel: str) -> None:
        if not hasattr(self._client, "pubsub"):
            return  # a release of redis-py that knows no subscription in a cluster
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._listen(None))
        confirmed = self._confirmed.get(channel)
        if confirmed is None:
            confirmed = self._confirmed[channel] = asyncio.Event()
            await self._send(channel)
        if not confirmed.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(CONFIRMED):
                    await confirmed.wait()

    async def _send(self, *channels: str) -> None:
        if self._pubsub is not None and channels:
            with suppress(*FAILURES):
                await self._pubsub.subscribe(*channels)

    async def _forget(self) -> None:
        while len(self._idle) > KEPT:
            channel, _ = self._idle.popitem(last=False)
            self._confirmed.pop(channel, None)
            if self._pubsub is not None:
                with suppress(*FAILURES):
                    await self._pubsub.unsubscribe(channel)

    async def _listen(self, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait([before])
        while True:
            pubsub = self._client.pubsub()
            try:
                channels = list(self._confirmed)
                await pubsub.subscribe(ALWAYS, *channels)
                self._pubsub = pubsub
                await self._send(*[channel for channel in self._confirmed if channel not in channels])
                while True:
                    self._note(await pubsub.get_message(timeout=None))
            except FAILURES:
                pass
            finally:
                self._pubsub = None
                self._doubt()
                with suppress(*FAILURES):
                    await pubsub.aclose()
            await asyncio.sleep(AGAIN)

    def _doubt(self) -> None:
        for confirmed in self._confirmed.values():
            confirmed.clear()

    def _note(self, message: Any) -> None:
        if message is None:
            return
        channel = message["channel"].decode()
        if message["type"] == "subscribe" and channel in self._confirmed:
            self._confirmed[channel].set()
        if message["type"] in ("subscribe", "message"):  # what happened before the subscription was told to nobody
            for bell in self._bells.get(channel, ()):
                bell.ring()
