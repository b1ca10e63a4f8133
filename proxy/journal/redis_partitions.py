"""The parts of a journal in Redis: each has its keys on one node of a cluster, and is called by scripts."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Any, Final, cast
from zlib import crc32

from limits.aio.storage.redis import RedisClusterStorage
from redis.commands.core import AsyncScript
from redis.exceptions import ResponseError

from proxy.journal.ledger import EXPIRED_FOR
from proxy.kernel.clock import Clock
from proxy.kernel.lru import Recent
from proxy.kernel.store import StoreUnavailable
from proxy.stores.primary import Primary
from proxy.stores.redis_caller import RedisCaller
from proxy.stores.redis_url import shown

IN_A_CLUSTER: Final = 16
"""Partitions of the journal in a cluster, over whose nodes they are spread. Elsewhere one does."""
WITHIN: Final = 2.0
"""Seconds that a call may take; a body of many megabytes is sent within that time too."""
NEWS: Final = "ollama-proxy:journal:"
"""The channel of what may be claimed; with an id behind it, of the changes of an entry."""
REMEMBERED: Final = 10_000
"""Ids whose partition is remembered."""
SCRIPTS: Final = (
    *("add", "append", "beat", "begin", "cancel", "claim", "count", "delete", "find", "finish", "get", "look", "meta"),
    *("read", "release", "retry", "sweep"),
)

Argument = str | int | float | bytes


class Full(Exception):
    """The server has no memory left for what was asked."""


class Partitions:
    """Calls the scripts of ``scripts/`` in the partition that has an entry.

    The partition follows from the tenant, so that a tenant's entries are together. Where there are several, the id of
    an entry leads there by a key of its own, which is written before the entry and lives as long.

    Args:
        url: URL of the server, see `proxy.stores.redis_url`.
        clock: tells the time where `server_time` is off.
        server_time: times are those of the server, whose clock all proxies share.
        within: seconds that a call may take.
        returned: called when the server is back after it was lost.

    Attributes:
        client: the client of redis-py, of whichever kind.
        count: how many partitions there are.
        name: the URL without credentials.
    """

    def __init__(
        self, url: str, clock: Clock, *, server_time: bool, within: float, returned: Callable[[], None]
    ) -> None:
        self._primary = Primary(url)
        self.name = shown(url)
        self.client = self._primary.client
        self.count = IN_A_CLUSTER if isinstance(self._primary.storage, RedisClusterStorage) else 1
        self._clock = clock
        self._server_time = server_time
        self._caller = RedisCaller(self.name, self._write, within=within, returned=returned)
        self._scripts = {name: self._script(name) for name in SCRIPTS}
        self._places: Recent[str, int] = Recent(REMEMBERED)

    @property
    def up(self) -> bool:
        """Whether calls are made; False during an outage."""
        return self._caller.up

    async def connect(self) -> None:
        """Open the connections; a server that cannot be reached is tried again."""
        await self._caller.connect()
        self._primary.follow()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._caller.aclose()
        await self._primary.aclose()

    def of(self, tenant: str) -> int:
        """Return the partition of a tenant, see `proxy.journal.redis_entries.turn_tenant`."""
        return crc32(tenant.encode()) % self.count

    async def where(self, id: str) -> int | None:
        """Return the partition that has an entry; None where there is none."""
        if self.count == 1:
            return 0
        place = self._places.get(id)
        if place is None:
            known = await self._caller.run(lambda keys, args: self.client.get(*keys), [_pointer(id)], [])
            if known is None:
                return None
            place = int(known)
            self._places.note(id, place)
        return place

    async def point(self, id: str, place: int, seconds: float) -> None:
        """Let an id lead to a partition for so many seconds."""
        if self.count > 1:
            await self._caller.run(
                lambda keys, args: self.client.set(keys[0], args[0], ex=int(args[1])),
                [_pointer(id)],
                [place, max(1, int(seconds + EXPIRED_FOR))],
            )
            self._places.note(id, place)

    async def call(self, name: str, place: int, *args: Argument) -> Any:
        """Return what a script returns; raises Full, or StoreUnavailable."""
        script = self._scripts[name]

        async def guarded(keys: Sequence[str], args: Sequence[Argument]) -> Any:
            # A full server is not lost: it still answers what takes no memory.
            try:
                return await script(keys=keys, args=args)
            except ResponseError as error:
                if "OOM command" in str(error) or str(error).startswith("command not allowed when used memory"):
                    return error
                raise

        now = "" if self._server_time else repr(self._clock.time())
        answer = await self._caller.run(guarded, [f"ollama-proxy:{{journal-{place}}}:"], cast(Any, [now, *args]))
        if isinstance(answer, ResponseError):
            raise Full(f"{self.name} has no memory left") from answer
        return answer

    async def ask(self, name: str, place: int, *args: Argument) -> Any:
        """Return what a script returns; raises StoreUnavailable where the server is full, too."""
        try:
            return await self.call(name, place, *args)
        except Full as error:
            raise StoreUnavailable(str(error)) from error

    async def ask_of(self, id: str, name: str, *args: Argument) -> Any:
        """Return what a script returns in the partition of an entry, whose id goes before `args`; None without one."""
        place = await self.where(id)
        return await self.ask(name, place, id, *args) if place is not None else None

    async def ask_all(self, name: str, *args: Argument) -> list[Any]:
        """Return what a script returns in each partition."""
        calls: list[Awaitable[Any]] = [self.ask(name, place, *args) for place in range(self.count)]
        return list(await asyncio.gather(*calls))

    async def _write(self) -> None:
        # A write that a full server takes, and one that only reads refuses.
        await self.client.delete("ollama-proxy:journal:nothing")

    def _script(self, name: str) -> AsyncScript:
        folder = files("proxy.journal").joinpath("scripts")
        head = f"local EXPIRED_FOR, NEWS, PARTITIONS = {EXPIRED_FOR}, '{NEWS}', {self.count}\n"
        parts = [folder.joinpath(f"{part}.lua").read_text() for part in ("common", name)]
        return self.client.register_script(head + "\n".join(parts))

    def __repr__(self) -> str:
        return f"{self.name} {'up' if self.up else 'unreachable'}"


def _pointer(id: str) -> str:
    return f"ollama-proxy:journal-at:{id}"
