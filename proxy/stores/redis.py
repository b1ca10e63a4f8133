"""Counters in a Redis (or Valkey, Sentinel, Cluster) that several proxies share.

Each decision is one script on the server, see ``scripts/``. Requests are kept as the strategies of `limits` keep them,
under the keys where these look, so that both read and hit the same counters. They are not what is called here because
they decide about one window at a time, and what the first had charged could not be given back when the second is full.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Coroutine, Sequence
from importlib.resources import files
from itertools import count
from typing import Any, Final, TypeVar, cast

from limits.aio.storage.redis import RedisStorage
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from proxy.kernel.clock import Clock
from proxy.kernel.quotas import Admission, Lease, Level, Quota
from proxy.kernel.store import Store, StoreUnavailable
from proxy.stores.known_full import KnownFull
from proxy.stores.leases import Keeper
from proxy.stores.memory import MemoryStore
from proxy.stores.redis_link import Link
from proxy.stores.redis_url import PREFIX, open_storage, shown
from proxy.stores.script_calls import Arguments, ending, lease_keys, member, question

WITHIN: Final = 0.08
"""Seconds a call may take: with what `Link` adds for a busy loop no request is held up for more than 100 ms."""

T = TypeVar("T")


class RedisStore(Store):
    """Counters of all proxies that name the same server.

    Args:
        url: see `redis_url`.
        clock: for the calendar, and for everything where `server_time` is off; proxies need clocks that agree on the
            day only.
        within: seconds a call may take.
        ttl: whole seconds after which the leases of a process that died are over.
        server_time: windows and leases run by the server's clock, which all proxies share.

    Raises ValueError where `url` cannot be read.
    """

    def __init__(
        self, url: str, clock: Clock, *, within: float = WITHIN, ttl: int = 30, server_time: bool = True
    ) -> None:
        self.url = shown(url)
        self.local = MemoryStore(clock)
        self._clock = clock
        self._ttl = ttl
        self._server_time = server_time
        self._limits = open_storage(url)
        # The client that `limits` has opened, whichever kind it is; so there is one pool of connections.
        self._client: Redis = cast(Any, self._limits.bridge).get_connection()
        self._scripts = {name: self._script(name) for name in ("admit", "settle", "renew")}
        self._keeper = Keeper(self._renew, self._end, every=ttl / 3)
        self._link = Link(self.url, self._write, within=within, returned=self._keeper.wake)
        self._known_full = KnownFull()
        self._calls: set[asyncio.Task[Any]] = set()
        self._settling: dict[str, set[asyncio.Task[None]]] = {}
        self._process = secrets.token_hex(6)
        self._ids = count()

    @property
    def limits(self) -> RedisStorage:
        """The storage for the strategies of the `limits` library. Its calls are neither bounded nor translated."""
        return self._limits

    async def connect(self) -> None:
        """Open the connections ahead of the first requests, which would have little time for it."""
        await self._link.connect()

    async def aclose(self) -> None:
        """Settle what is left, and close the connections."""
        while self._calls:
            await asyncio.wait(self._calls)
        await self._keeper.aclose()
        await self._link.aclose()
        await self._client.aclose()
        for sentinel in getattr(getattr(self._limits.bridge, "sentinel", None), "sentinels", ()):
            await sentinel.aclose()

    async def admit(self, quotas: Sequence[Quota], tokens: int = 0) -> Admission:
        """See `Store.admit`."""
        if not self._link.up:
            raise StoreUnavailable(f"{self.url} is unreachable")
        await self._settled(quotas)
        lease = Lease(f"{self._process}:{next(self._ids)}", tuple(quotas), tokens)
        decision = self._call(self._decide(quotas, lease))
        try:
            levels, admitted = await asyncio.shield(decision)
        except asyncio.CancelledError:
            # The server may be at it already: see what it says, and take it back.
            decision.add_done_callback(lambda late: self._take_back(lease, late))
            raise
        except StoreUnavailable:
            if any(quota.leased for quota in quotas):
                self._keeper.owe(lease, 0)
            raise
        if not admitted:
            return Admission(levels, tuple([level for level in levels if level.full]))
        if not any(quota.leased for quota in quotas):
            return Admission(levels)
        self._keeper.hold(lease)
        return Admission(levels, (), lease)

    def settle(self, lease: Lease, tokens: int) -> Awaitable[None]:
        """See `Store.settle`; begins at once, whether or not anybody waits for it."""
        self._keeper.drop(lease)
        task = self._call(self._settle(lease, tokens))
        for quota in lease.quotas:
            self._settling.setdefault(quota.key, set()).add(task)
        return asyncio.shield(task)

    async def look(self, quotas: Sequence[Quota]) -> tuple[Level, ...]:
        """See `Store.look`."""
        return (await self._decide(quotas, None))[0]

    async def known(self, quotas: Sequence[Quota]) -> tuple[Level, ...]:
        """See `Store.known`; it is what the server said last of windows that are full, for as long as they must be."""
        if not self._link.up:
            raise StoreUnavailable(f"{self.url} is unreachable")
        return tuple(self._known_full.levels(quotas, now=self._clock.monotonic(), today=self._clock.time()))

    # What the server is asked

    async def _decide(self, quotas: Sequence[Quota], lease: Lease | None) -> tuple[tuple[Level, ...], bool]:
        plan = question(quotas, self._clock.time())
        tokens = lease.tokens if lease else 0
        answer = await self._link.run(
            self._scripts["admit"],
            plan.keys,
            [self._now(), lease.id if lease else "", tokens, self._ttl, *plan.args],
        )
        admitted = answer[1] == 1
        costs = {"requests": 1, "streams": 1, "tokens": tokens}
        levels = []
        for place, counter in enumerate(plan.counters):
            if counter.amount >= 0:
                used, milliseconds, sure = answer[2 + 3 * place : 5 + 3 * place]
                level = Level(counter.quota, counter.unit, counter.amount, used, milliseconds / 1000, counter.window)
                level = level.charged(costs[counter.unit]) if admitted else level
                levels.append(level)
                quota = quotas[counter.quota]
                if level.full and quota.asked_again:
                    full_for = level.resets_in if counter.unit == "requests" else sure / 1000
                    now, today = self._clock.monotonic(), self._clock.time()
                    self._known_full.note(quota.key, level, full_for, now=now, today=today)
        return tuple(levels), admitted

    async def _settle(self, lease: Lease, tokens: int) -> None:
        try:
            await self._end(lease, tokens, False)
        except StoreUnavailable:
            self._keeper.owe(lease, tokens)
        finally:
            task = cast(asyncio.Task[None], asyncio.current_task())
            for quota in lease.quotas:
                tasks = self._settling[quota.key]
                tasks.discard(task)
                if not tasks:
                    del self._settling[quota.key]

    async def _end(self, lease: Lease, tokens: int, again: bool) -> None:
        keys, args = ending(lease, self._clock.time())
        head: Arguments = [self._now(), member(lease), lease.tokens, tokens, "again" if again else "first"]
        await self._link.run(self._scripts["settle"], keys, [*head, *args])

    async def _renew(self, leases: Sequence[Lease]) -> None:
        held = [(lease, quota) for lease in leases for quota in lease.quotas if quota.leased]
        keys = [key for _, quota in held for key in lease_keys(quota)]
        members = [member(lease) for lease, _ in held]
        await self._link.run(self._scripts["renew"], keys, [self._now(), self._ttl, *members])

    async def _write(self) -> None:
        await self._client.set(f"{PREFIX}:probe", "1", ex=60)

    def _now(self) -> str:
        return "" if self._server_time else repr(self._clock.time())

    def _script(self, name: str) -> AsyncScript:
        return self._client.register_script(files("proxy.stores").joinpath("scripts", f"{name}.lua").read_text())

    # Order among our own calls

    def _call(self, call: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Begin a call that goes on whatever becomes of who waits for it."""
        task = asyncio.create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task

    async def _settled(self, quotas: Sequence[Quota]) -> None:
        """Wait for settlements on their way: who asks again right after an answer shall find its place free."""
        pending = [task for quota in quotas if quota.streams for task in self._settling.get(quota.key, ())]
        if pending:
            await asyncio.wait(pending)

    def _take_back(self, lease: Lease, late: "asyncio.Task[tuple[tuple[Level, ...], bool]]") -> None:
        if late.cancelled() or late.exception() is not None:
            self._keeper.owe(lease, 0)
        elif late.result()[1]:
            self.settle(lease, 0)

    def __repr__(self) -> str:
        return f"<RedisStore {self.url} {'up' if self._link.up else 'unreachable'} {self._keeper}>"
