"""What every journal must do: one suite, run by the tests of each home, and a model for the property test."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest
from hypothesis import strategies as st

from proxy.journal.shelf import Row
from proxy.kernel.journal import (
    OVER,
    Claim,
    Entry,
    Fenced,
    Journal,
    JournalFull,
    Kind,
    NewEntry,
    Query,
    State,
    StoredCaller,
)
from proxy.testing import ManualClock

START: Final = 3_900_000_000.0
"""Far ahead, as a server forgets by its own clock what a manual one says is over."""
LASTS: Final = 86400.0
ANN: Final = StoredCaller(
    identity="ann", tenant="red", policy="team", claims={"scope": ["a"]}, method="key", client="::1"
)
BOB: Final = StoredCaller(identity="bob", tenant="blue")


def entry(caller: StoredCaller = ANN, **fields: Any) -> NewEntry:
    """Return an entry with an id of its own."""
    standard: dict[str, Any] = {
        "id": secrets.token_hex(16),
        "kind": "request",
        "path": "/api/chat",
        "body": b'{"model": "m"}',
        "model": "m",
        "created_at": START,
        "expires_at": START + LASTS,
    }
    return NewEntry(caller=caller, **{**standard, **fields})


async def claim(journal: Journal, *, attempts: int = 3, lost_after: float = 30.0) -> Claim:
    """Claim what is there."""
    claimed = await journal.claim("one", attempts=attempts, lost_after=lost_after)
    assert claimed is not None
    return claimed


async def state(journal: Journal, name: str) -> State | None:
    """Return the state of an entry; None where there is none."""
    found = await journal.get(name)
    return found.state if found is not None else None


def jain(shares: Sequence[float]) -> float:
    """Return Jain's index of fairness."""
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


class JournalContract:
    """Inherited by the test class of each home, which provides the fixtures `journal`, `other` and `clock`.

    `other` is a second handle on the home where it is shared, and the same journal where it is not.
    """

    # Entries

    async def test_what_was_put_in_is_there(self, journal: Journal, other: Journal) -> None:
        new = entry(
            query="a=b", headers=(("prefer", "respond-async"),), flavor="openai", cost=7, priority=-1, meta={"n": 1}
        )
        added = await journal.add(new)
        assert added.position == 0
        found = await other.get(new.id)
        assert found == added
        assert found is not None
        for name in ("kind", "caller", "method", "path", "query", "headers", "flavor", "model", "cost", "priority"):
            assert getattr(found, name) == getattr(new, name), name
        assert (found.state, found.attempts, found.fence, found.recorded, found.read) == ("queued", 0, 0, 0, False)
        assert found.meta == {"n": 1}
        assert (found.created_at, found.expires_at) == (START, START + LASTS)
        assert await other.body(new.id) == new.body
        assert await other.read(new.id, 0, 10) == b""

    async def test_what_is_not_there(self, journal: Journal) -> None:
        assert await journal.get("no") is None
        assert await journal.body("no") is None
        assert await journal.read("no", 0, 10) is None
        assert await journal.cancel("no", "x") is None
        assert await journal.retry("no") is None
        assert await journal.set_meta("no", {}) is None
        assert await journal.wait_for_change("no", 0, 5) is None
        assert not await journal.delete("no")
        assert await journal.claim("one", attempts=1, lost_after=1) is None
        assert await journal.children("no") == {}
        assert not any((await journal.counts()).values())

    async def test_an_answer_from_its_first_byte_to_its_end(
        self, journal: Journal, other: Journal, clock: ManualClock
    ) -> None:
        new = entry()
        await journal.add(new)
        clock.advance(5)
        held = await claim(journal)
        assert (held.entry.id, held.body, held.fence) == (new.id, new.body, 1)
        running = await other.get(new.id)
        assert running is not None
        assert (running.state, running.attempts, running.started_at) == ("running", 1, START + 5)
        assert running.position is None
        await journal.begin(held, 200, [("content-type", "application/x-ndjson")])
        assert await journal.append(held, b"abc") == 3
        assert await journal.append(held, b"defgh") == 8
        assert await other.read(new.id, 0, 100) == b"abcdefgh"
        clock.advance(5)
        ended = await journal.finish(held, "completed", usage={"tokens_in": 2, "tokens_out": 3})
        found = await other.get(new.id)
        assert found == ended
        assert (ended.state, ended.status, ended.ended_at, ended.recorded) == ("completed", 200, START + 10, 8)
        assert ended.answer_headers == (("content-type", "application/x-ndjson"),)
        assert ended.usage == {"tokens_in": 2, "tokens_out": 3}
        assert ended.error is None
        assert await journal.claim("one", attempts=3, lost_after=30) is None

    async def test_a_failure_says_why(self, journal: Journal) -> None:
        new = await journal.add(entry())
        ended = await journal.finish(await claim(journal), "failed", error="upstream_failed: it is gone")
        assert (ended.state, ended.error) == ("failed", "upstream_failed: it is gone")
        assert await journal.get(new.id) == ended

    async def test_the_same_idempotency_key_is_the_same_entry_of_one_owner(self, journal: Journal) -> None:
        first = await journal.add(entry(idempotency_key="k"))
        again = await journal.add(entry(idempotency_key="k"))
        assert again.id == first.id
        assert (await journal.add(entry(BOB, idempotency_key="k"))).id != first.id
        assert (await journal.add(entry(idempotency_key="other"))).id != first.id
        assert (await journal.counts())["queued"] == 3
        await journal.finish(await claim(journal), "completed")
        assert (await journal.add(entry(idempotency_key="k"))).id == first.id
        await journal.delete(first.id)
        assert (await journal.add(entry(idempotency_key="k"))).id != first.id

    async def test_many_that_come_at_once_with_one_key_are_one(self, journal: Journal, other: Journal) -> None:
        added = await asyncio.gather(
            *((journal, other)[number % 2].add(entry(idempotency_key="k")) for number in range(20))
        )
        assert len({one.id for one in added}) == 1
        assert (await journal.counts())["queued"] == 1

    async def test_open_entries_are_bounded_by_owner_and_in_all(self, journal: Journal) -> None:
        for _ in range(2):
            await journal.add(entry(most_per_owner=2, most=3))
        with pytest.raises(JournalFull) as caught:
            await journal.add(entry(most_per_owner=2, most=3))
        assert caught.value.bound == "identity"
        await journal.add(entry(BOB, most_per_owner=2, most=3))
        with pytest.raises(JournalFull) as caught:
            await journal.add(entry(BOB, most_per_owner=2, most=3))
        assert caught.value.bound == "entries"
        await journal.add(entry(kind="file", most_per_owner=0, most=0))  # a document is not open work
        held = await claim(journal)
        with pytest.raises(JournalFull):  # what runs is open
            await journal.add(entry(held.entry.caller, most_per_owner=2, most=3))
        await journal.finish(held, "completed")
        await journal.add(entry(held.entry.caller, most_per_owner=2, most=3))

    async def test_bounds_hold_for_those_who_come_at_once(self, journal: Journal, other: Journal) -> None:
        added = await asyncio.gather(
            *((journal, other)[number % 2].add(entry(most_per_owner=7)) for number in range(30)), return_exceptions=True
        )
        assert Counter(type(one) for one in added) == {Entry: 7, JournalFull: 23}

    async def test_an_answer_is_bounded(self, journal: Journal) -> None:
        await journal.add(entry(most_answer=10))
        held = await claim(journal)
        assert await journal.append(held, b"0123456789") == 10
        with pytest.raises(JournalFull) as caught:
            await journal.append(held, b"x")
        assert caught.value.bound == "bytes"
        assert await journal.read(held.entry.id, 0, 100) == b"0123456789"
        assert (await journal.finish(held, "failed", error="answer_too_long: x")).recorded == 10

    async def test_lists_by_what_is_asked_newest_first(self, journal: Journal) -> None:
        names = [(await journal.add(entry(caller, kind=kind))).id for caller, kind in (
            (ANN, "request"), (BOB, "request"), (ANN, "batch"), (ANN, "request"), (ANN, "file")
        )]  # fmt: skip

        async def listed(**asked: Any) -> list[int]:
            return [names.index(one.id) for one in await journal.entries(Query(**asked))]

        assert await listed() == [4, 3, 2, 1, 0]
        assert await listed(owner=ANN.owner) == [4, 3, 2, 0]
        assert await listed(owner=ANN.owner, kinds=("request", "batch")) == [3, 2, 0]
        assert await listed(limit=2) == [4, 3]
        assert await listed(limit=2, after=names[3]) == [2, 1]
        assert await listed(owner=ANN.owner, kinds=("request",), after=names[3]) == [0]
        await journal.cancel(names[0], "no")
        assert await listed(states=("cancelled",)) == [0]
        assert await listed(owner=ANN.owner, states=("queued", "cancelled"), kinds=("request",)) == [3, 0]
        assert await listed(owner="by nobody") == []
        assert {name: number for name, number in (await journal.counts()).items() if number} == {
            "queued": 2,
            "cancelled": 1,
        }

    async def test_positions_are_counted_within_a_tenant(self, journal: Journal) -> None:
        first, second = [(await journal.add(entry())).id for _ in range(2)]
        assert (await journal.add(entry(BOB))).position == 0
        hasty = await journal.add(entry(priority=1))
        found = [await journal.get(name) for name in (hasty.id, first, second)]
        assert [one.position for one in found if one is not None] == [0, 1, 2]

    async def test_documents_are_changed_and_never_claimed(self, journal: Journal, other: Journal) -> None:
        new = await journal.add(entry(kind="batch", meta={"total": 3}))
        assert new.state == "queued"
        changed = await other.set_meta(new.id, {"failed": 1}, state="running")
        assert changed is not None
        assert (changed.meta, changed.state) == ({"total": 3, "failed": 1}, "running")
        assert await journal.claim("one", attempts=3, lost_after=0) is None
        ended = await journal.set_meta(new.id, {"total": 4}, state="completed")
        assert ended is not None
        assert (ended.meta["total"], ended.state) == (4, "completed")
        later = await journal.set_meta(new.id, {"x": 1}, state="running")
        assert later is not None
        assert (later.state, later.meta["x"]) == ("completed", 1)
        assert (await journal.counts()).get("completed", 0) == 0  # of requests

    async def test_the_state_of_a_request_is_not_set_by_hand(self, journal: Journal) -> None:
        new = await journal.add(entry(meta={"a": 1}))
        changed = await journal.set_meta(new.id, {"b": 2}, state="completed")
        assert changed is not None
        assert (changed.meta, changed.state) == ({"a": 1, "b": 2}, "queued")

    async def test_cancelling_a_batch_cancels_what_belongs_to_it(self, journal: Journal, other: Journal) -> None:
        batch = await journal.add(entry(kind="batch"))
        names = [(await journal.add(entry(parent=batch.id))).id for _ in range(4)]
        stranger = await journal.add(entry())
        done = await claim(journal)
        await journal.finish(done, "completed")
        running = await claim(journal)
        assert dict(await journal.children(batch.id)) == {"completed": 1, "running": 1, "queued": 2}
        cancelled = await other.cancel(batch.id, "the caller wished so")
        assert cancelled is not None
        assert cancelled.state == "cancelled"
        assert dict(await other.children(batch.id)) == {"completed": 1, "cancelled": 3}
        assert [await state(journal, name) for name in names] == ["completed", *["cancelled"] * 3]
        with pytest.raises(Fenced):
            await journal.append(running, b"x")
        assert (await claim(journal)).entry.id == stranger.id

    async def test_what_is_over_is_not_cancelled(self, journal: Journal) -> None:
        await journal.add(entry())
        held = await claim(journal)
        ended = await journal.finish(held, "completed")
        assert await journal.cancel(held.entry.id, "late") == ended

    async def test_an_entry_is_queued_again_by_hand(self, journal: Journal, other: Journal) -> None:
        new = await journal.add(entry())
        held = await claim(journal)
        await journal.begin(held, 500, [("a", "b")])
        await journal.append(held, b"half")
        assert await journal.retry(new.id) == await journal.get(new.id)  # it runs: nothing changes
        await journal.finish(held, "failed", error="upstream_failed: x", usage={"tokens_in": 1})
        queued = await other.retry(new.id)
        assert queued is not None
        assert (queued.state, queued.attempts, queued.recorded, queued.status, queued.error, queued.ended_at) == (
            "queued", 0, 0, None, None, None,
        )  # fmt: skip
        again = await claim(journal)
        assert (again.entry.id, again.fence, again.entry.attempts, again.body) == (new.id, 2, 1, new_body := held.body)
        assert new_body
        assert await journal.read(new.id, 0, 10) == b""
        await journal.finish(again, "completed")
        done = await journal.retry(new.id)
        assert done is not None
        assert done.state == "completed"

    async def test_a_deleted_entry_is_gone_whatever_it_does(self, journal: Journal, other: Journal) -> None:
        queued, running = await journal.add(entry()), await journal.add(entry(BOB))
        held = await claim(journal)
        names = {queued.id, running.id} - {held.entry.id}
        await journal.append(held, b"words")
        assert await other.delete(held.entry.id)
        assert not await other.delete(held.entry.id)
        with pytest.raises(Fenced):
            await journal.append(held, b"x")
        assert await journal.beat([held]) == [held.entry.id]
        assert await journal.body(held.entry.id) is None
        assert await journal.read(held.entry.id, 0, 10) is None
        assert await other.delete(names.pop())
        assert await journal.claim("one", attempts=3, lost_after=30) is None
        assert await journal.entries(Query()) == []

    async def test_purging_removes_requests_that_are_over(self, journal: Journal) -> None:
        for _ in range(4):
            await journal.add(entry())
        document = await journal.add(entry(kind="file"))
        await journal.set_meta(document.id, {}, state="completed")
        await journal.finish(await claim(journal), "completed")
        await journal.finish(await claim(journal), "failed")
        await claim(journal)
        assert await journal.purge(["running", "queued"]) == 0
        assert await journal.purge(["completed", "dead"]) == 1
        assert {name: number for name, number in (await journal.counts()).items() if number} == {
            "failed": 1,
            "running": 1,
            "queued": 1,
        }
        assert await journal.get(document.id) is not None

    async def test_entries_expire(self, journal: Journal, clock: ManualClock) -> None:
        waiting = await journal.add(entry(expires_at=START + 10))
        document = await journal.add(entry(kind="file", expires_at=START + 10))
        done = await journal.add(entry(BOB, expires_at=START + 10))
        kept = await journal.add(entry(StoredCaller(identity="eve")))
        while (held := await claim(journal)).entry.id != done.id:
            await journal.release(held, again_after=1, counts=False)
        await journal.append(held, b"words")
        await journal.finish(held, "completed")
        clock.advance(9)
        assert await state(journal, done.id) == "completed"
        clock.advance(1)
        assert await journal.get(done.id) is None
        assert await journal.body(done.id) is None
        assert await journal.read(done.id, 0, 9) is None
        assert await journal.get(document.id) is None
        assert await state(journal, waiting.id) == "expired"
        assert (await claim(journal)).entry.id == kept.id
        assert await journal.claim("one", attempts=3, lost_after=30) is None
        assert [one.id for one in await journal.entries(Query(states=("expired",)))] == [waiting.id]
        assert await journal.retry(waiting.id) is not None
        assert (await claim(journal)).entry.id == waiting.id

    async def test_a_running_entry_expires_too(self, journal: Journal, clock: ManualClock) -> None:
        await journal.add(entry(expires_at=START + 10))
        held = await claim(journal)
        clock.advance(10)
        with pytest.raises(Fenced):
            await journal.append(held, b"late")
        assert await journal.get(held.entry.id) is None
        await journal.add(entry(most_per_owner=1, expires_at=START + 99))  # and it is not open any more

    # Running

    async def test_a_stale_owner_can_write_nothing(self, journal: Journal, other: Journal, clock: ManualClock) -> None:
        await journal.add(entry())
        stale = await claim(journal)
        await journal.begin(stale, 200, [])
        await journal.append(stale, b"old")
        clock.advance(31)
        held = await claim(other)
        assert (held.entry.id, held.fence) == (stale.entry.id, stale.fence + 1)
        assert await journal.beat([stale]) == [stale.entry.id]
        with pytest.raises(Fenced):
            await journal.begin(stale, 500, [])
        with pytest.raises(Fenced):
            await journal.append(stale, b"x")
        with pytest.raises(Fenced):
            await journal.release(stale)
        with pytest.raises(Fenced):
            await journal.finish(stale, "failed")
        assert await other.beat([held]) == []
        await other.append(held, b"new")
        assert await journal.read(held.entry.id, 0, 10) == b"new"
        assert (await other.finish(held, "completed")).attempts == 2
        with pytest.raises(Fenced):
            await other.finish(held, "failed")

    async def test_a_part_is_recorded_once_however_often_it_is_sent(self, journal: Journal) -> None:
        new = await journal.add(entry())
        held = await claim(journal)
        for _ in range(2):
            assert await journal.append(held, b"abc", at=0) == 3
        assert await journal.append(held, b"de", at=3) == 5
        with pytest.raises(Fenced):
            await journal.append(held, b"abc", at=0)  # the first call, which arrives late
        with pytest.raises(Fenced):
            await journal.append(held, b"x", at=6)  # the record has lost a byte
        assert await journal.read(new.id, 0, 100) == b"abcde"

    async def test_an_owner_that_beats_keeps_its_claim(self, journal: Journal, clock: ManualClock) -> None:
        await journal.add(entry())
        held = await claim(journal)
        for _ in range(5):
            clock.advance(20)
            assert await journal.beat([held]) == []
            assert await journal.claim("other", attempts=3, lost_after=30) is None
        await journal.finish(held, "completed")

    async def test_a_broken_answer_that_somebody_has_read_is_not_begun_anew(
        self, journal: Journal, other: Journal, clock: ManualClock
    ) -> None:
        await journal.add(entry())
        held = await claim(journal)
        await journal.append(held, b"half an")
        assert await other.read(held.entry.id, 0, 4) == b"half"
        found = await journal.get(held.entry.id)
        assert found is not None
        assert found.read
        clock.advance(31)
        assert await other.claim("two", attempts=3, lost_after=30) is None
        ended = await journal.get(held.entry.id)
        assert ended is not None
        assert ended.state == "failed"
        assert (ended.error or "").startswith("owner_lost: ")
        assert await journal.read(held.entry.id, 0, 100) == b"half an"
        with pytest.raises(Fenced):
            await journal.append(held, b"swer")

    async def test_a_broken_answer_that_nobody_has_read_is_begun_anew(
        self, journal: Journal, other: Journal, clock: ManualClock
    ) -> None:
        first = await journal.add(entry())
        held = await claim(journal)
        await journal.begin(held, 200, [("a", "b")])
        await journal.append(held, b"half an")
        assert await other.read(first.id, 7, 4) == b""  # beyond its end: nothing was read
        await journal.add(entry(BOB, priority=5))
        clock.advance(31)
        again = await claim(other)
        assert again.entry.id == first.id  # before all that wait
        assert (again.entry.recorded, again.entry.status, again.entry.answer_headers) == (0, None, ())
        assert await journal.read(first.id, 0, 100) == b""

    async def test_an_entry_that_was_claimed_too_often_is_dead(self, journal: Journal, clock: ManualClock) -> None:
        new = await journal.add(entry())
        for _ in range(2):
            await claim(journal, attempts=2)
            clock.advance(31)
        assert await journal.claim("one", attempts=2, lost_after=30) is None
        found = await journal.get(new.id)
        assert found is not None
        assert (found.state, found.attempts, found.error is not None) == ("dead", 2, True)
        assert (await journal.counts())["dead"] == 1
        queued = await journal.retry(new.id)
        assert queued is not None
        assert (queued.state, queued.attempts, queued.error) == ("queued", 0, None)
        assert (await claim(journal, attempts=2)).fence == 3

    async def test_a_release_that_counts_is_an_attempt_and_another_is_none(self, journal: Journal) -> None:
        new = await journal.add(entry())
        for _ in range(5):
            held = await claim(journal, attempts=2)
            await journal.append(held, b"x")
            await journal.release(held, counts=False)
            found = await journal.get(new.id)
            assert found is not None
            assert (found.state, found.attempts, found.recorded) == ("queued", 0, 0)
        await journal.release(await claim(journal, attempts=2))
        await journal.release(await claim(journal, attempts=2))
        assert await journal.claim("one", attempts=2, lost_after=30) is None
        assert await state(journal, new.id) == "dead"

    async def test_a_released_entry_waits_as_long_as_was_said(self, journal: Journal, clock: ManualClock) -> None:
        new = await journal.add(entry())
        await journal.release(await claim(journal), again_after=10)
        clock.advance(9)
        assert await journal.claim("one", attempts=9, lost_after=30) is None
        clock.advance(1)
        assert (await claim(journal)).entry.id == new.id

    async def test_what_is_recorded_live_is_never_claimed(self, journal: Journal, other: Journal) -> None:
        new = await journal.add(entry(kind="live"))
        assert (new.state, new.fence, new.attempts) == ("running", 1, 1)
        held = Claim(new, b"", new.fence)
        assert await journal.beat([held]) == []
        await journal.begin(held, 200, [])
        await journal.append(held, b"abc")
        assert await other.read(new.id, 1, 10) == b"bc"
        assert await journal.claim("one", attempts=3, lost_after=1e6) is None
        assert (await journal.finish(held, "completed")).state == "completed"
        assert not any((await journal.counts()).values())

    async def test_two_that_claim_at_once_get_different_entries(self, journal: Journal, other: Journal) -> None:
        names = {(await journal.add(entry())).id for _ in range(20)}
        held = await asyncio.gather(*(claim((journal, other)[number % 2]) for number in range(20)))
        assert {one.entry.id for one in held} == names
        assert await journal.claim("one", attempts=3, lost_after=30) is None

    async def test_appends_at_once_are_all_there(self, journal: Journal) -> None:
        await journal.add(entry())
        held = await claim(journal)
        lengths = await asyncio.gather(*(journal.append(held, bytes([number]) * 10) for number in range(20)))
        assert sorted(lengths) == list(range(10, 201, 10))
        record = await journal.read(held.entry.id, 0, 1000)
        assert record is not None
        assert Counter(record) == dict.fromkeys(range(20), 10)

    # Turns

    async def test_tenants_take_turns_by_cost_and_weight(self, journal: Journal) -> None:
        shares = {"a": (10, 1.0), "b": (10, 2.0), "c": (30, 1.0), "d": (40, 4.0)}
        for name, (cost, weight) in shares.items():  # one tenant after the other, with more than it can have
            for _ in range(60):
                await journal.add(entry(StoredCaller(identity=name, tenant=name), cost=cost, weight=weight))
        had: Counter[str] = Counter()
        for _ in range(80):
            held = await claim(journal)
            had[held.entry.caller.tenant or ""] += held.entry.cost
            await journal.finish(held, "completed")
        assert jain([had[name] / weight for name, (_, weight) in shares.items()]) >= 0.95

    async def test_people_without_a_tenant_are_tenants(self, journal: Journal) -> None:
        for _ in range(10):
            await journal.add(entry(StoredCaller(client="10.0.0.1")))
        await journal.add(entry(StoredCaller(client="10.0.0.2")))
        await journal.add(entry(StoredCaller(identity="eve")))
        first = [(await claim(journal)).entry.caller.owner for _ in range(3)]
        assert len(set(first)) == 3

    async def test_a_higher_priority_goes_first(self, journal: Journal) -> None:
        names = {}
        for caller, priority in ((ANN, 0), (ANN, -1), (BOB, 5), (ANN, 5), (BOB, 0)):
            names[(await journal.add(entry(caller, priority=priority))).id] = priority
        assert [names[(await claim(journal)).entry.id] for _ in names] == [5, 5, 0, 0, -1]

    async def test_who_comes_late_saves_up_no_turns(self, journal: Journal) -> None:
        for _ in range(20):
            await journal.add(entry())
        for _ in range(10):
            await journal.finish(await claim(journal), "completed")
        for _ in range(20):
            await journal.add(entry(BOB))
        had = Counter([(await claim(journal)).entry.caller.identity for _ in range(10)])
        assert abs(had["ann"] - had["bob"]) <= 2

    # Reading and waiting

    @pytest.mark.parametrize(
        ("offset", "limit", "part"),
        [(0, 3, b"abc"), (0, 4, b"abcd"), (2, 5, b"cdefg"), (3, 3, b"def"), (7, 9, b"hij"), (10, 5, b""), (4, 0, b"")],
    )
    async def test_any_range_is_read(self, journal: Journal, offset: int, limit: int, part: bytes) -> None:
        await journal.add(entry())
        held = await claim(journal)
        for piece in (b"abc", b"", b"def", b"g", b"hij"):
            await journal.append(held, piece)
        assert await journal.read(held.entry.id, offset, limit) == part

    async def test_a_reader_is_woken_by_each_change(self, journal: Journal, other: Journal) -> None:
        await journal.add(entry())
        held = await claim(journal)
        waits = asyncio.create_task(other.wait_for_change(held.entry.id, 0, 30))
        await journal.append(held, b"abc")
        changed = await waits
        assert changed is not None
        assert changed.recorded == 3
        waits = asyncio.create_task(other.wait_for_change(held.entry.id, 3, 30))
        await journal.finish(held, "completed")
        changed = await waits
        assert changed is not None
        assert changed.state == "completed"
        again = await other.wait_for_change(held.entry.id, 3, 30)
        assert again is not None
        assert again.over

    async def test_a_reader_is_told_that_the_entry_is_gone(self, journal: Journal, other: Journal) -> None:
        new = await journal.add(entry())
        waits = asyncio.create_task(other.wait_for_change(new.id, 0, 30))
        await journal.delete(new.id)
        assert await waits is None

    async def test_a_wait_ends_by_itself(self, journal: Journal) -> None:
        new = await journal.add(entry())
        found = await journal.wait_for_change(new.id, 0, 0.01)
        assert found is not None
        assert found.state == "queued"
        held = await claim(journal)
        await journal.wait_for_work(0.01)
        await journal.finish(held, "completed")

    async def test_who_waits_for_work_is_woken(self, journal: Journal, other: Journal) -> None:
        waits = asyncio.create_task(other.wait_for_work(30))
        while (await other.claim("one", attempts=1, lost_after=30)) is None:
            new = asyncio.create_task(journal.add(entry()))
            await waits
            await new
        await waits


# The model


@dataclass
class Modelled:
    """What the model knows of an entry."""

    state: State = "queued"
    fence: int = 0
    attempts: int = 0
    record: bytes = b""
    read: bool = False
    heard: float = 0.0


@dataclass
class Model:
    """The contract for one tenant and one priority, in the simplest words: a list of entries."""

    entries: dict[str, Modelled] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    now: float = 0.0

    def held(self, claimed: Claim) -> Modelled | None:
        """Return what a claim is good for; None where it is stale."""
        known = self.entries.get(claimed.entry.id)
        return known if known is not None and known.state == "running" and known.fence == claimed.fence else None

    def next(self, attempts: int, lost_after: float) -> list[str]:
        """Say which entries a claim may return; it ends what has been lost for good."""
        for known in self.entries.values():
            if known.state == "running" and self.now - known.heard >= lost_after:
                if known.read:
                    known.state = "failed"
                elif known.attempts >= attempts:
                    known.state = "dead"
        lost = [
            name
            for name, known in self.entries.items()
            if known.state == "running" and self.now - known.heard >= lost_after
        ]
        if lost:
            return lost
        for name in self.order:
            known = self.entries[name]
            if known.state == "queued":
                if known.attempts < attempts:
                    return [name]
                known.state = "dead"
        return []


Step = tuple[str, int, int]
MOVES: Final = (
    *("add", "add", "claim", "claim", "append", "finish", "release", "back"),
    *("beat", "cancel", "retry", "delete", "read", "advance", "advance"),
)
STEPS: Final = st.lists(
    st.tuples(
        st.sampled_from(MOVES),
        st.integers(0, 9),
        st.integers(0, 25),
    ),
    max_size=40,
)


async def check_against_model(journal: Journal, clock: ManualClock, steps: Sequence[Step]) -> None:
    """Take the steps in the journal and in the model, and compare them after each."""
    model = Model()
    for name, which, number in steps:
        await _step(journal, clock, model, name, which, number)
        for known, expected in model.entries.items():
            found = await journal.get(known)
            assert found is not None
            assert (found.state, found.fence, found.attempts, found.recorded) == (
                expected.state,
                expected.fence,
                expected.attempts,
                len(expected.record),
            )
        counts = {name: count for name, count in (await journal.counts()).items() if count}
        assert counts == Counter(known.state for known in model.entries.values())
    for name in model.entries:
        await journal.delete(name)


async def _step(journal: Journal, clock: ManualClock, model: Model, name: str, which: int, number: int) -> None:
    if name == "add":
        new = await journal.add(entry(expires_at=START * 2))
        model.entries[new.id] = Modelled()
        model.order.append(new.id)
    elif name == "advance":
        clock.advance(number)
        model.now += number
    elif name == "claim":
        allowed = model.next(3, 20)
        claimed = await journal.claim("one", attempts=3, lost_after=20)
        assert (claimed is None and not allowed) or (claimed is not None and claimed.entry.id in allowed)
        if claimed is not None:
            known = model.entries[claimed.entry.id]
            model.claims.append(claimed)
            model.entries[claimed.entry.id] = Modelled("running", known.fence + 1, known.attempts + 1, heard=model.now)
    elif name in ("cancel", "retry", "delete", "read") and model.order:
        await _touch(journal, model, name, model.order[which % len(model.order)], number)
    elif name in ("append", "finish", "release", "back", "beat") and model.claims:
        await _write(journal, model, name, model.claims[which % len(model.claims)], number)


async def _touch(journal: Journal, model: Model, name: str, id: str, number: int) -> None:
    known = model.entries.get(id)
    if name == "cancel":
        await journal.cancel(id, "x")
        if known is not None and known.state not in OVER:
            known.state = "cancelled"
    elif name == "retry":
        await journal.retry(id)
        if known is not None and known.state in ("dead", "failed", "cancelled"):
            model.entries[id] = Modelled(fence=known.fence)
    elif name == "delete":
        assert await journal.delete(id) == (model.entries.pop(id, None) is not None)
        model.order.remove(id)
    else:
        data = await journal.read(id, number, 5)
        assert data == (known.record[number : number + 5] if known is not None else None)
        if data and known is not None:
            known.read = True


async def _write(journal: Journal, model: Model, name: str, claimed: Claim, number: int) -> None:
    known = model.held(claimed)
    if name == "beat":
        assert list(await journal.beat([claimed])) == ([] if known is not None else [claimed.entry.id])
        if known is not None:
            known.heard = model.now
        return
    data = bytes([number]) * (number % 7)
    try:
        if name == "append":
            await journal.append(claimed, data)
        elif name == "finish":
            await journal.finish(claimed, "completed" if number % 2 else "failed")
        else:
            await journal.release(claimed, counts=name == "release")
    except Fenced:
        assert known is None
        return
    assert known is not None
    if name == "append":
        known.record += data
    elif name == "finish":
        known.state = "completed" if number % 2 else "failed"
    else:
        attempts = known.attempts - (name == "back")
        model.entries[claimed.entry.id] = replace(Modelled(fence=known.fence), attempts=attempts)


def row(caller: StoredCaller = ANN, *, number: int = 1, kind: Kind = "request") -> Row:
    """Return the row of a queued entry."""
    new = entry(caller, kind=kind)
    stored = Entry(
        id=new.id,
        kind=kind,
        state="queued",
        caller=caller,
        method=new.method,
        path=new.path,
        query="",
        headers=(("a", "b"),),
        flavor=new.flavor,
        model=new.model,
        parent=None,
        cost=new.cost,
        priority=new.priority,
        created_at=new.created_at,
        expires_at=new.expires_at,
    )
    return Row(stored, number, 1.0, 1000)
