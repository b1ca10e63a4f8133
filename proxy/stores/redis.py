"""Counters in a Redis (or Valkey, Sentinel, Cluster) that several proxies share.

Each decision is one script on the server, see ``scripts/``. The scripts keep requests in the form and under the keys of
the strategies of `limits`, so that both use the same counters. The store does not call these strategies, because each
call decides about one window: where a second window is full, the charge on the first could not be taken back.
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
from proxy.kernel.quotas import Admission, Level, Quota, Reservation
from proxy.kernel.store import Store, StoreUnavailable
from proxy.stores.known_full import KnownFull
from proxy.stores.memory import MemoryStore
from proxy.stores.primary import Primary
from proxy.stores.redis_caller import RedisCaller
from proxy.stores.redis_url import PREFIX, shown
from proxy.stores.reservation_keeper import ReservationKeeper
from proxy.stores.script_calls import Arguments, ending, member, question, reservation_keys

WITHIN: Final = 0.08
"""Seconds that a call may take. With the grace of `RedisCaller` for a busy event loop it delays no request by more than
100 ms."""

T = TypeVar("T")


class RedisStore(Store):
    """The store of all proxies that name the same server.

    Args:
        url: URL of the server, see `proxy.stores.redis_url`.
        clock: decides the calendar day, on which the clocks of all proxies must agree; and everything, where
            `server_time` is off.
        within: seconds that a call may take.
        ttl: whole seconds after which the reservations of a dead process end.
        server_time: windows and reservations use the server's clock, which all proxies share.

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
        self._primary = Primary(url)
        self._limits = self._primary.storage
        # The client that `limits` has opened, of whichever kind, so that both share one pool of connections.
        self._client: Redis = self._primary.client
        self._scripts = {name: self._script(name) for name in ("admit", "settle", "renew")}
        self._keeper = ReservationKeeper(self._renew, self._end, every=ttl / 3)
        self._caller = RedisCaller(self.url, self._write, within=within, returned=self._keeper.wake)
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
        """Open the connections before the first requests, which would have little time for it."""
        await self._caller.connect()
        self._primary.follow()

    async def aclose(self) -> None:
        """Settle the reservations that are left, and close the connections."""
        while self._calls:
            await asyncio.wait(self._calls)
        await self._keeper.aclose()
        await self._caller.aclose()
        await self._primary.aclose()

    async def admit(self, quotas: Sequence[Quota], tokens: int = 0) -> Admission:
        """See `Store.admit`."""
        if not self._caller.up:
            raise StoreUnavailable(f"{self.url} is unreachable")
        await self._settled(quotas)
        reservation = Reservation(f"{self._process}:{next(self._ids)}", tuple(quotas), tokens)
        decision = self._call(self._decide(quotas, reservation))
        try:
            levels, admitted = await asyncio.shield(decision)
        except asyncio.CancelledError:
            # The server may have decided already: wait for its reply, and take the charge back.
            decision.add_done_callback(lambda late: self._take_back(reservation, late))
            raise
        except StoreUnavailable:
            if any(quota.reserves for quota in quotas):
                self._keeper.owe(reservation, 0)
            raise
        if not admitted:
            return Admission(levels, tuple([level for level in levels if level.full]))
        if not any(quota.reserves for quota in quotas):
            return Admission(levels)
        self._keeper.hold(reservation)
        return Admission(levels, (), reservation)

    def settle(self, reservation: Reservation, tokens: int) -> Awaitable[None]:
        """See `Store.settle`; it begins at once, whether or not the caller waits for it."""
        self._keeper.drop(reservation)
        task = self._call(self._settle(reservation, tokens))
        for quota in reservation.quotas:
            self._settling.setdefault(quota.key, set()).add(task)
        return asyncio.shield(task)

    async def look(self, quotas: Sequence[Quota]) -> tuple[Level, ...]:
        """See `Store.look`."""
        return (await self._decide(quotas, None))[0]

    async def known(self, quotas: Sequence[Quota]) -> tuple[Level, ...]:
        """See `Store.known`; returns the windows that the server reported full, for as long as they must stay full."""
        if not self._caller.up:
            raise StoreUnavailable(f"{self.url} is unreachable")
        return tuple(self._known_full.levels(quotas, now=self._clock.monotonic(), today=self._clock.time()))

    # Calls to the server

    async def _decide(self, quotas: Sequence[Quota], reservation: Reservation | None) -> tuple[tuple[Level, ...], bool]:
        plan = question(quotas, self._clock.time())
        tokens = reservation.tokens if reservation else 0
        answer = await self._caller.run(
            self._scripts["admit"],
            plan.keys,
            [self._now(), reservation.id if reservation else "", tokens, self._ttl, *plan.args],
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

    async def _settle(self, reservation: Reservation, tokens: int) -> None:
        try:
            await self._end(reservation, tokens, False)
        except StoreUnavailable:
            self._keeper.owe(reservation, tokens)
        finally:
            task = cast(asyncio.Task[None], asyncio.current_task())
            for quota in reservation.quotas:
                tasks = self._settling[quota.key]
                tasks.discard(task)
                if not tasks:
                    del self._settling[quota.key]

    async def _end(self, reservation: Reservation, tokens: int, again: bool) -> None:
        keys, args = ending(reservation, self._clock.time())
        head: Arguments = [self._now(), member(reservation), reservation.tokens, tokens, "again" if again else "first"]
        await self._caller.run(self._scripts["settle"], keys, [*head, *args])

    async def _renew(self, reservations: Sequence[Reservation]) -> None:
        held = [(reservation, quota) for reservation in reservations for quota in reservation.quotas if quota.reserves]
        keys = [key for _, quota in held for key in reservation_keys(quota)]
        members = [member(reservation) for reservation, _ in held]
        await self._caller.run(self._scripts["renew"], keys, [self._now(), self._ttl, *members])

    async def _write(self) -> None:
        await self._client.set(f"{PREFIX}:probe", "1", ex=60)

    def _now(self) -> str:
        return "" if self._server_time else repr(self._clock.time())

    def _script(self, name: str) -> AsyncScript:
        return self._client.register_script(files("proxy.stores").joinpath("scripts", f"{name}.lua").read_text())

    # The order of our own calls

    def _call(self, call: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Start a call that goes on even if the task that waits for it is cancelled."""
        task = asyncio.create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task

    async def _settled(self, quotas: Sequence[Quota]) -> None:
        """Wait for running settlements, so that a caller who asks again after a response finds its stream free."""
        pending = [task for quota in quotas if quota.streams for task in self._settling.get(quota.key, ())]
        if pending:
            await asyncio.wait(pending)

    def _take_back(self, reservation: Reservation, late: "asyncio.Task[tuple[tuple[Level, ...], bool]]") -> None:
        if late.cancelled() or late.exception() is not None:
            self._keeper.owe(reservation, 0)
        elif late.result()[1]:
            self.settle(reservation, 0)

    def __repr__(self) -> str:
        return f"<RedisStore {self.url} {'up' if self._caller.up else 'unreachable'} {self._keeper}>"
