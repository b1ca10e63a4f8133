"""A request becomes an entry: what is kept of it, and what is refused."""

from dataclasses import replace

import pytest

from proxy.journal.memory import MemoryJournal
from proxy.kernel.acceptance import (
    ATTEMPTS,
    DIGEST,
    RUN_BY,
    DeferTerms,
    add_entry,
    entry_of,
    journal_unavailable,
    known_entry,
    new_entry,
    new_id,
    stored_caller_of,
)
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.journal import Entry, Journal, NewEntry, Query, StoredCaller
from proxy.kernel.store import StoreUnavailable
from proxy.kernel.token_estimate import Estimate
from proxy.testing import ManualClock, make_exchange

TERMS = DeferTerms(
    priority=-10,
    keep=100.0,
    wait=10.0,
    attempts=3,
    per_identity=2,
    total=3,
    max_body=100,
    max_answer=1000,
    weight=2.0,
    estimate=Estimate(),
)
BODY = b'{"model": "llama3.2", "prompt": "hi"}'
CREDENTIALS = [
    ("Authorization", "Bearer op_secret"),
    ("X-Api-Key", "op_secret"),
    ("Cookie", "session=secret"),
    ("Proxy-Authorization", "Basic secret"),
]


async def accepted(
    exchange: Exchange, terms: DeferTerms = TERMS, body: bytes = BODY, key: str | None = None
) -> NewEntry:
    await exchange.body()
    assert exchange.route is not None
    return entry_of(exchange, exchange.route, terms, now=1000.0, body=body, key=key)


async def test_what_is_kept_of_a_request() -> None:
    exchange = make_exchange(
        path="/api/generate",
        body=BODY,
        headers=[*CREDENTIALS, ("Content-Type", "application/json"), ("Prefer", "respond-async")],
        identity="alice",
        tenant="physics",
        policy="research",
        known_by="key",
        claims={"sub": "alice"},
        client="10.0.0.1",
    )
    new = await accepted(exchange, key="k")
    assert (new.method, new.path, new.flavor, new.body) == ("POST", "/api/generate", "ollama", BODY)
    assert new.headers == (("content-type", "application/json"),)
    assert (new.priority, new.weight, new.expires_at, new.idempotency_key) == (-10, 2.0, 1100.0, "k")
    assert (new.most_per_owner, new.most, new.most_answer) == (2, 3, 1000)
    assert (new.meta[ATTEMPTS], new.meta[RUN_BY]) == (3, 1010.0)
    assert new.cost > 1000  # the output that is expected of it
    assert new.caller == StoredCaller("alice", "physics", "research", {"sub": "alice"}, "key", "10.0.0.1")
    assert "secret" not in repr(replace(new, body=b""))


async def test_a_backend_that_the_caller_named_stays_named() -> None:
    new = await accepted(make_exchange(path="/-/backends/gpu-1/api/generate", body=BODY))
    assert (new.path, new.headers) == ("/api/generate", (("x-ollama-backend", "gpu-1"),))


async def test_a_body_that_is_too_long() -> None:
    with pytest.raises(Refused) as refused:
        await accepted(make_exchange(path="/api/generate", body=BODY), replace(TERMS, max_body=10))
    assert (refused.value.status, refused.value.code) == (413, "deferred_too_large")


async def test_it_may_wait_as_long_as_it_is_kept() -> None:
    new = await accepted(make_exchange(path="/api/generate", body=BODY), replace(TERMS, wait=None))
    assert RUN_BY not in new.meta


async def test_a_recording_costs_by_its_length() -> None:
    exchange = make_exchange(path="/v1/audio/transcriptions", body=b"x" * 50)
    new = await accepted(exchange, body=b"x" * 50)
    assert new.cost == Estimate().output


@pytest.fixture
async def journal() -> Journal:
    return MemoryJournal(ManualClock(1000.0))


async def test_the_same_key_is_the_same_entry_or_another_request(journal: Journal) -> None:
    first = await add_entry(journal, await accepted(make_exchange(path="/api/generate", body=BODY), key="k"))
    again = await add_entry(journal, await accepted(make_exchange(path="/api/generate", body=BODY), key="k"))
    assert again.id == first.id
    for path, body in [("/api/generate", BODY + b" "), ("/api/chat", BODY)]:
        other = await accepted(make_exchange(path=path, body=body), key="k", body=body)
        assert other.meta[DIGEST] != first.meta[DIGEST]
        with pytest.raises(Refused) as refused:
            await add_entry(journal, other)
        assert (refused.value.status, refused.value.code) == (422, "idempotency_key_reused")


async def test_the_entry_under_a_key_is_found_without_adding_one(journal: Journal) -> None:
    new = await accepted(make_exchange(path="/api/generate", body=BODY), key="k")
    assert await known_entry(journal, new) is None
    assert not await journal.entries(Query())
    first = await add_entry(journal, new)
    found = await known_entry(journal, await accepted(make_exchange(path="/api/generate", body=BODY), key="k"))
    assert found is not None
    assert found.id == first.id


def entry(caller: StoredCaller) -> NewEntry:
    return new_entry(TERMS, caller, now=1000.0, path="/api/generate", body=BODY)


async def test_bounds(journal: Journal) -> None:
    alice, bob, carol = (StoredCaller(identity=name) for name in ("alice", "bob", "carol"))
    for caller in (alice, alice, bob):
        await add_entry(journal, entry(caller))
    with pytest.raises(Refused) as refused:
        await add_entry(journal, entry(alice))
    assert (refused.value.status, refused.value.code) == (429, "deferred_share_exceeded")
    assert "retry-after" in refused.value.headers
    with pytest.raises(Refused) as refused:
        await add_entry(journal, entry(carol))
    assert (refused.value.status, refused.value.code) == (507, "journal_full")


async def test_a_journal_that_does_not_answer() -> None:
    class Away(MemoryJournal):
        async def add(self, new: NewEntry) -> Entry:
            raise StoreUnavailable("away")

    with pytest.raises(Refused) as refused:
        await add_entry(Away(ManualClock()), entry(StoredCaller()))
    assert (refused.value.status, refused.value.code) == (503, journal_unavailable().code)


def test_ids_and_callers() -> None:
    assert new_id("resp_").startswith("resp_")
    assert len(new_id()) == 32
    assert new_id() != new_id()
    assert stored_caller_of(make_exchange(client="10.0.0.9")).owner == "at 10.0.0.9"
