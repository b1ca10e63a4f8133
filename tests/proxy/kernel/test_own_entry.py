"""proxy/kernel/own_entry.py."""

from proxy.journal.memory import MemoryJournal
from proxy.kernel.journal import NewEntry, StoredCaller
from proxy.kernel.own_entry import own_entry
from proxy.services.system_clock import SystemClock


async def test_only_its_owner_reaches_an_entry_and_only_as_what_it_is() -> None:
    journal, clock = MemoryJournal(SystemClock()), SystemClock()
    alice = StoredCaller(identity="alice", client="192.0.2.1")
    kept = clock.time() + 60
    await journal.add(NewEntry(id="a" * 32, kind="request", caller=alice, created_at=clock.time(), expires_at=kept))
    assert await own_entry(journal, alice.owner, "a" * 32, "request") is not None
    assert await own_entry(journal, alice.owner, "a" * 32, "live", "file") is None
    assert await own_entry(journal, StoredCaller(client="192.0.2.1").owner, "a" * 32, "request") is None
    assert await own_entry(journal, StoredCaller(identity="bob").owner, "a" * 32, "request") is None
    assert await own_entry(journal, alice.owner, "b" * 32, "request") is None
    assert await own_entry(journal, alice.owner, None, "request") is None
