"""The journal in a Redis (or Valkey, Sentinel, Cluster) that several proxies share.

Each method is one script on the server, see ``scripts/common.lua`` for the keys. A script compares the fence and
changes what it changes in one step: so of two owners of an entry one is refused, whatever was lost between.

**Streams.** A tenant's open requests are in a stream of its own with one consumer group. Its pending list says which
process has which entry, and for how long it has not beaten (``XPENDING``). The order is not the stream's: an entry that
comes back takes its old place, and one of a higher priority passes. So a sorted set has the order, and a claim is an
``XCLAIM … FORCE`` of the entry whose turn it is. Owners are found lost by one sorted set of all beats, by the server's
clock, as ``XAUTOCLAIM`` would have to ask every tenant's stream.

**Slots of a cluster.** All keys of a partition have one hash tag, ``{journal-N}``, and so are on one node. A tenant is
in one partition, with all its entries, its owners' lists and its place in the order of turns. A single server has one
partition; a cluster has 16, which share its nodes. Then a key for each id says in which partition its entry is, and a
claim takes two steps (`proxy.journal.redis_claims`). The scripts make the names of keys from the prefix in ``KEYS[1]``,
as they cannot know the entry before they have picked it; Redis and Valkey allow that where all are in one slot.

**What is safe.** `add` returns when the server has acknowledged the entry. What that is worth the server says: with
``appendfsync always`` it is on disk, with ``everysec`` a power cut forgets a second, without ``appendonly`` a restart
forgets what the last snapshot has not. A replica that takes over may miss the last moments. It may
then give the number of a forgotten claim again; a mark of each claim's own tells the two apart, so that one of them is
refused all the same. Where it misses the end of a record, its owner is refused, as what follows would leave a gap.

**Faults.** Unreachable: each call raises StoreUnavailable, at once during an outage; claims live on and are fenced if
another proxy was able to take the entry up. Full (``maxmemory`` with ``noeviction``): `add` and `append` raise
JournalFull; what ends, deletes and reads goes on, and nothing new is claimed. An eviction policy must not be set: it
would drop what was accepted. Flushed: the entries are gone, owners are fenced, readers are told.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import orjson

from proxy.journal.claiming import claim_or_give_back
from proxy.journal.ledger import EXPIRED_FOR
from proxy.journal.redis_claims import Picker
from proxy.journal.redis_entries import View, entry_of, fields_of, meta_fields, turn_tenant
from proxy.journal.redis_news import News
from proxy.journal.redis_partitions import NEWS, WITHIN, Full, Partitions
from proxy.kernel.clock import Clock
from proxy.kernel.journal import OVER, Claim, Entry, Fenced, Journal, JournalFull, NewEntry, Query, State
from proxy.kernel.store import StoreUnavailable

POLL: Final = 5.0
"""Seconds after which who waits looks by itself, although the server tells of changes."""
POLL_DEAF: Final = 0.25
"""Seconds after which who waits looks by itself while the server cannot tell."""
SWEEP_EVERY: Final = 10.0
"""Seconds between two looks of each process for entries that have expired."""
AT_ONCE: Final = 200
"""Entries that one script ends, removes or looks at, so that it holds nobody up."""


class RedisJournal(Journal):
    """The journal of all proxies that name the same server.

    Args:
        url: URL of the server, see `proxy.stores.redis_url`.
        clock: tells the time where `server_time` is off.
        server_time: times are those of the server, whose clock all proxies share.
        within: seconds that a call may take.

    Raises ValueError where `url` cannot be read.
    """

    durable = True
    shared = True

    def __init__(self, url: str, clock: Clock, *, server_time: bool = True, within: float = WITHIN) -> None:
        self._partitions = Partitions(url, clock, server_time=server_time, within=within, returned=self._returned)
        self._picker = Picker(self._partitions)
        self._news = News(self._partitions.client)
        self._clock = clock
        self._sweeper: asyncio.Task[None] | None = None
        self.name = self._partitions.name

    async def connect(self) -> None:
        """See `Journal.connect`. A server that cannot be reached is tried again, and each call says so until then."""
        await self._partitions.connect()
        self._sweeper = asyncio.get_running_loop().create_task(_sweep(self._partitions))

    async def aclose(self) -> None:
        """See `Journal.aclose`."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait([self._sweeper])
        await self._news.aclose()
        await self._partitions.aclose()

    # Entries

    async def add(self, new: NewEntry) -> Entry:
        """See `Journal.add`."""
        place = self._partitions.of(turn_tenant(new.caller))
        await self._partitions.point(new.id, place, new.expires_at - self._clock.time())
        others = 0
        if new.most is not None:
            others = await self._picker.open_elsewhere(place, self._clock.monotonic())
        bounds = ["" if bound is None else bound for bound in (new.most_per_owner, new.most)]
        try:
            said, *rest = await self._partitions.call(
                "add", place, new.id, new.body, new.idempotency_key or "", *bounds, others, *fields_of(new)
            )
        except Full as error:
            raise JournalFull("bytes", "the journal's Redis has no memory left") from error
        if said == b"identity":
            bound = new.most_per_owner
            raise JournalFull("identity", f"the caller has {rest[0]} open requests, and may have {bound}")
        if said == b"entries":
            raise JournalFull("entries", f"{rest[0]} requests are open, and {new.most} may be")
        if said == b"id":
            raise ValueError("the journal has an entry with this id")
        return _entry(rest[0])

    async def get(self, id: str) -> Entry | None:
        """See `Journal.get`."""
        return _entry_or_none(await self._partitions.ask_of(id, "get", ""))

    async def body(self, id: str) -> bytes | None:
        """See `Journal.body`."""
        found: bytes | None = await self._partitions.ask_of(id, "get", "body")
        return found

    async def entries(self, query: Query) -> Sequence[Entry]:
        """See `Journal.entries`."""
        await _swept(self._partitions)
        last = await self.get(query.after) if query.after is not None and self._partitions.count > 1 else None
        pages = await asyncio.gather(
            *(_found(self._partitions, place, query, last) for place in range(self._partitions.count))
        )
        if len(pages) == 1:
            return pages[0]
        found = sorted((one for page in pages for one in page), key=_age, reverse=True)
        return found[: query.limit]

    async def counts(self) -> Mapping[State, int]:
        """See `Journal.counts`."""
        return await self.children("")

    async def children(self, parent: str) -> Mapping[State, int]:
        """See `Journal.children`."""
        await _swept(self._partitions)
        counts: dict[Any, int] = {}
        for flat in await self._partitions.ask_all("count", parent):
            for state, number in zip(flat[::2], flat[1::2], strict=True):
                if number:
                    counts[state.decode()] = counts.get(state.decode(), 0) + number
        return counts

    async def set_meta(self, id: str, changes: Mapping[str, Any], *, state: State | None = None) -> Entry | None:
        """See `Journal.set_meta`."""
        return _entry_or_none(await self._partitions.ask_of(id, "meta", state or "", *meta_fields(changes)))

    async def cancel(self, id: str, reason: str) -> Entry | None:
        """See `Journal.cancel`. A batch has its entries cancelled some hundred at a time."""
        while True:
            answer = await self._partitions.ask_of(id, "cancel", reason, AT_ONCE)
            if answer is None:
                return None
            if not answer[1]:
                return _entry(answer[0])

    async def retry(self, id: str) -> Entry | None:
        """See `Journal.retry`."""
        entry = _entry_or_none(await self._partitions.ask_of(id, "retry"))
        if entry is not None:
            place = self._partitions.of(turn_tenant(entry.caller))
            await self._partitions.point(id, place, entry.expires_at - self._clock.time())
        return entry

    async def delete(self, id: str) -> bool:
        """See `Journal.delete`."""
        return bool(await self._partitions.ask_of(id, "delete"))

    async def purge(self, states: Sequence[State]) -> int:
        """See `Journal.purge`."""
        await _swept(self._partitions)
        removed = 0
        for state in OVER.intersection(states):
            while found := sum(await self._partitions.ask_all("delete", "", state, AT_ONCE)):
                removed += found
        return removed

    # Running

    async def claim(self, owner: str, *, attempts: int, lost_after: float) -> Claim | None:
        """See `Journal.claim`. Who is cancelled meanwhile gives back what the server may have given."""

        async def pick() -> Claim | None:
            picked = await self._picker.pick(owner, attempts, lost_after)
            return _claim(picked[1]) if picked is not None else None

        return await claim_or_give_back(pick(), partial(self.release, counts=False))

    async def beat(self, claims: Sequence[Claim]) -> Sequence[str]:
        """See `Journal.beat`."""
        by_place: dict[int, list[str | int]] = {}
        for claim in claims:
            place = self._partitions.of(turn_tenant(claim.entry.caller))
            by_place.setdefault(place, []).extend((claim.entry.id, _right(claim)))
        calls = [
            self._partitions.ask("beat", place, *pairs[start : start + 2 * AT_ONCE])
            for place, pairs in by_place.items()
            for start in range(0, len(pairs), 2 * AT_ONCE)
        ]
        return [name.decode() for fenced in await asyncio.gather(*calls) for name in fenced]

    async def begin(self, claim: Claim, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """See `Journal.begin`."""
        answer = await self._partitions.ask_of(
            claim.entry.id, "begin", _right(claim), status, orjson.dumps([list(pair) for pair in headers])
        )
        _check(claim, answer)

    async def append(self, claim: Claim, data: bytes, *, at: int | None = None) -> int:
        """See `Journal.append`. It is one round trip."""
        place = self._partitions.of(turn_tenant(claim.entry.caller))
        try:
            length: int = await self._partitions.call(
                "append", place, claim.entry.id, _right(claim), data, "" if at is None else at
            )
        except Full as error:
            raise JournalFull("bytes", "the journal's Redis has no memory left") from error
        if length == -2:
            raise JournalFull("bytes", "the answer is longer than what is kept of one")
        _check(claim, length >= 0)
        return length

    async def finish(
        self,
        claim: Claim,
        state: State,
        *,
        error: str | None = None,
        usage: Mapping[str, int] | None = None,
        at: int | None = None,
    ) -> Entry:
        """See `Journal.finish`."""
        if state not in OVER:
            raise ValueError(f"an entry does not end as {state}")
        known = orjson.dumps(dict(usage)) if usage is not None else ""
        length = "" if at is None else at
        answer = await self._partitions.ask_of(
            claim.entry.id, "finish", _right(claim), state, error or "", known, length
        )
        _check(claim, answer)
        return _entry(answer)

    async def release(self, claim: Claim, *, again_after: float = 0.0, counts: bool = True) -> None:
        """See `Journal.release`."""
        answer = await self._partitions.ask_of(
            claim.entry.id, "release", _right(claim), repr(float(again_after)), "counts" if counts else ""
        )
        _check(claim, answer)

    async def wait_for_work(self, seconds: float) -> None:
        """See `Journal.wait_for_work`."""
        async with self._news.bell(NEWS) as bell:
            ready = [one.ready_in for one in await self._picker.look() if one.ready_in is not None]
            await bell.wait(min(seconds, POLL if self._news.hears(NEWS) else POLL_DEAF, *ready))

    # Reading

    async def read(self, id: str, offset: int, limit: int) -> bytes | None:
        """See `Journal.read`."""
        found: bytes | None = await self._partitions.ask_of(id, "read", offset, limit)
        return found

    async def wait_for_change(self, id: str, recorded: int, seconds: float) -> Entry | None:
        """See `Journal.wait_for_change`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        channel = NEWS + id
        async with self._news.bell(channel) as bell:
            while True:
                entry = await self.get(id)
                left = until - loop.time()
                if entry is None or entry.over or entry.recorded > recorded or left <= 0:
                    return entry
                await bell.wait(min(left, POLL if self._news.hears(channel) else POLL_DEAF))

    def _returned(self) -> None:
        self._news.renew()

    def __repr__(self) -> str:
        return f"<RedisJournal {self._partitions}>"


async def _found(partitions: Partitions, place: int, query: Query, last: Entry | None) -> list[Entry]:
    """Return what one partition has of a list, behind the entry `last`, which may be in another one."""
    found: list[Entry] = []
    after, below = query.after or "", ""
    while len(found) < query.limit:
        low, page = await partitions.ask(
            "find",
            place,
            query.owner or "",
            query.parent or "",
            " ".join(query.kinds),
            " ".join(query.states),
            after,
            below,
            min(query.limit, AT_ONCE),
            AT_ONCE,
        )
        entries = [_entry(view) for _, view in page]
        found += [one for one in entries if last is None or _age(one) < _age(last)]
        if not low:
            break
        after, below = "", str(low)
    return found[: query.limit]


def _age(entry: Entry) -> tuple[float, str]:
    return entry.created_at, entry.id


async def _swept(partitions: Partitions) -> None:
    """Remove what has expired; a server that fails is left to the call that follows."""
    with suppress(StoreUnavailable):
        while any(await partitions.ask_all("sweep", AT_ONCE)):
            pass


async def _sweep(partitions: Partitions) -> None:
    while True:
        await asyncio.sleep(SWEEP_EVERY)
        await _swept(partitions)


def _check(claim: Claim, held: object) -> None:
    if not held:
        raise Fenced(f"another owner has the entry {claim.entry.id}, or it is over")


def _entry(view: View) -> Entry:
    return entry_of(view, EXPIRED_FOR)


def _entry_or_none(view: View | None) -> Entry | None:
    return _entry(view) if view is not None else None


def _claim(answer: Any) -> Claim:
    view, body, fence, mark = answer
    return Claim(_entry(view), body, fence, mark.decode())


def _right(claim: Claim) -> str:
    """Return the fence and the mark of a claim, as the scripts compare them."""
    return f"{claim.fence}:{claim.mark}"
