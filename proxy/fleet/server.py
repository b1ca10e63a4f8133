"""Calls of one proxy to the Redis of its fleet: one script, and the channel by which it is told of grants."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.resources import files
from itertools import count
from typing import Any, Final, NamedTuple, cast

import orjson
from redis.asyncio import Redis

from proxy.kernel.shared_line import Demand
from proxy.stores.primary import Primary
from proxy.stores.redis_caller import FAILURES
from proxy.stores.redis_url import shown

PREFIX: Final = "ollama-proxy:{fleet}"
"""Prefix of every key. The braces put all keys on one node of a cluster, as one decision touches several of them."""
WITHIN: Final = 0.5
"""Seconds that a call may take."""
AGAIN: Final = 0.25
"""Seconds before a subscription that broke is made anew."""

Held = tuple[str, int, int, int, int]
"""URL of a backend, its slots, permits held, grants seen, and the local share."""


class Said(NamedTuple):
    """What one proxy says in a call.

    Attributes:
        backends: what it holds.
        demands: who waits there.
        retries: the retries that it saved; the reply says how many of all it has then.
        ejected: URLs of the backends that it ejected.
    """

    backends: Sequence[Held]
    demands: Sequence[Demand] = ()
    retries: float = 0.0
    ejected: Sequence[str] = ()


class Server:
    """The server of a fleet, as one proxy calls it.

    Args:
        url: URL of the server, see `proxy.stores.redis_url`.
        ttl: seconds after which the permits of a dead process are given to others; 0 in a call says that it leaves.
        quiet: seconds without a call of anybody after which others may have gone on alone.
        settle: seconds after that, or after the server was started or flushed, in which each proxy is granted its local
            share alone, so that all can say first what they run; three times as many where another server took over.
        now: returns the time in place of the server's clock.
    """

    def __init__(
        self, url: str, *, ttl: float, quiet: float, settle: float, now: Callable[[], float] | None = None
    ) -> None:
        self._primary = Primary(url)
        self.url = shown(url)
        self.proxy = secrets.token_hex(6)
        self.ttl = ttl
        self._quiet, self._settle = quiet, settle
        self._now = now
        self._numbers = count()
        self._client: Redis = self._primary.client
        text = files("proxy.fleet").joinpath("scripts", "share.lua").read_text()
        self._script = self._client.register_script(text)
        self._listening: asyncio.Task[None] | None = None

    async def share(self, said: Said, *, leaves: bool = False) -> dict[str, Any]:
        """Say what is held and who waits, and return the reply of ``scripts/share.lua``; raises one of `FAILURES`."""
        args = [
            "" if self._now is None else repr(self._now()),
            self.proxy,
            0 if leaves else self.ttl,
            next(self._numbers),
            self._quiet,
            self._settle,
            orjson.dumps({**said._asdict(), "demands": [tuple(demand) for demand in said.demands]}).decode(),
        ]
        async with asyncio.timeout(WITHIN):
            reply: dict[str, Any] = orjson.loads(await self._script(keys=[PREFIX], args=args))
        return reply

    def listen(self, told: Callable[[dict[str, Any]], None], lost: Callable[[], None]) -> None:
        """Call `told` with each message for this proxy, and `lost` where the connection for them breaks.

        Messages may get lost: the next reply has what they said. From now on calls and messages follow the primary.
        """
        self._primary.follow()
        self._listening = asyncio.get_running_loop().create_task(self._listen(told, lost))

    async def _listen(self, told: Callable[[dict[str, Any]], None], lost: Callable[[], None]) -> None:
        if not hasattr(self._client, "pubsub"):
            return  # a release of redis-py that knows no subscription in a cluster
        while True:
            pubsub = self._client.pubsub()
            try:
                await pubsub.subscribe(f"{PREFIX}:grants:{self.proxy}")
                while True:
                    message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=None)
                    if message is not None:
                        told(orjson.loads(message["data"]))
            except FAILURES:
                lost()
            finally:
                with suppress(*FAILURES):
                    await cast(Any, pubsub).aclose()
            await asyncio.sleep(AGAIN)

    async def aclose(self) -> None:
        """End the subscription and close the connections."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
        await self._primary.aclose()
