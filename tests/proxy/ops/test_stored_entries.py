"""proxy/ops/stored_entries.py: operators see and change the state of entries, and never a word of them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.journal.memory import MemoryJournal
from proxy.kernel.errors import Refused
from proxy.kernel.journal import Entry
from proxy.kernel.store import StoreUnavailable
from proxy.ops.stored_entries import StoredEntries
from proxy.services.system_clock import SystemClock
from proxy.simulator import Ollama
from tests.support.journals import ANN, BOB, claim, entry
from tests.support.proxy import Running, running
from tests.support.wire import Reply, ask

LOCAL = {"Host": "localhost"}
WORDS = "my secret words"


@pytest.fixture
async def proxy() -> AsyncIterator[Running]:
    async with Ollama() as sim, running(sim.url) as proxy:
        yield proxy


async def get(proxy: Running, path: str) -> Any:
    reply = await ask(proxy.address, "GET", path)
    assert reply.status == 200, reply.body
    assert WORDS.encode() not in reply.body
    return json.loads(reply.body)


async def post(proxy: Running, path: str, **headers: str) -> Reply:
    return await ask(proxy.address, "POST", path, headers={**LOCAL, **headers})


async def ended(proxy: Running, state: str, error: str | None = None) -> Entry:
    """Put an entry full of words into the journal, and end it."""
    journal = proxy.app.journal
    new = entry(ANN, body=WORDS.encode(), headers=(("x", WORDS),), query=WORDS, meta={"title": WORDS}, priority=9)
    await journal.add(new)
    held = await claim(journal)
    assert held.entry.id == new.id
    await journal.begin(held, 200, [("x", WORDS)])
    await journal.append(held, WORDS.encode())
    return await journal.finish(held, state, error=error, usage={"tokens_in": 2})  # type: ignore[arg-type]


async def test_states_are_shown_and_no_words(proxy: Running) -> None:
    failed = await ended(proxy, "failed", f"upstream_failed: {WORDS}")
    waiting = await proxy.app.journal.add(entry(BOB))
    await proxy.app.journal.add(entry(kind="file", body=WORDS.encode()))
    found = await get(proxy, "/-/journal")
    assert [one["id"] for one in found["entries"]] == [waiting.id, failed.id]
    assert {name: number for name, number in found["counts"].items() if number} == {"queued": 1, "failed": 1}
    shown = await get(proxy, f"/-/journal/{failed.id}")
    assert shown == found["entries"][1]
    assert (shown["identity"], shown["tenant"], shown["policy"]) == ("ann", "red", "team")
    assert (shown["state"], shown["error_code"], shown["recorded"]) == ("failed", "upstream_failed", len(WORDS))
    assert (shown["tokens_in"], shown["tokens_out"], shown["attempts"]) == (2, None, 1)
    status = await get(proxy, "/-/status")
    assert status["journal"]["entries"] == found["entries"]
    assert (status["journal"]["home"], status["journal"]["durable"], status["journal"]["reached"]) == (
        "memory",
        False,
        True,
    )
    metrics = (await ask(proxy.address, "GET", "/-/metrics")).body
    assert b'ollama_proxy_deferred_requests{state="failed"} 1' in metrics
    assert b'ollama_proxy_deferred_requests{state="dead"} 0' in metrics


async def test_the_list_is_narrowed(proxy: Running) -> None:
    names = [(await ended(proxy, state)).id for state in ("failed", "dead", "completed")]
    batch = await proxy.app.journal.add(entry(kind="batch"))
    child = await proxy.app.journal.add(entry(parent=batch.id))

    async def listed(query: str) -> list[str]:
        return [one["id"] for one in (await get(proxy, f"/-/journal?{query}"))["entries"]]

    assert await listed("state=dead,failed") == [names[1], names[0]]
    assert await listed(f"parent={batch.id}") == [child.id]
    assert await listed("limit=2") == [child.id, batch.id]
    assert await listed(f"limit=2&after={batch.id}") == [names[2], names[1]]
    for query in ("state=nonesuch", "limit=0", "limit=x", "limit=1001"):
        assert (await ask(proxy.address, "GET", f"/-/journal?{query}")).status == 400


async def test_a_request_is_cancelled_once(proxy: Running) -> None:
    waiting = await proxy.app.journal.add(entry())
    assert (await post(proxy, f"/-/journal/{waiting.id}/cancel")).status == 200
    found = await proxy.app.journal.get(waiting.id)
    assert found is not None
    assert (found.state, found.error) == ("cancelled", "cancelled: an operator cancelled it")
    again = await post(proxy, f"/-/journal/{waiting.id}/cancel")
    assert again.status == 200  # it is as it was wished
    done = await ended(proxy, "completed")
    refused = await post(proxy, f"/-/journal/{done.id}/cancel")
    assert (refused.status, refused.headers["x-error-code"]) == (409, "entry_not_ready")


async def test_a_dead_request_is_queued_again(proxy: Running) -> None:
    dead, done = await ended(proxy, "dead"), await ended(proxy, "completed")
    assert (await post(proxy, f"/-/journal/{dead.id}/retry")).status == 200
    found = await proxy.app.journal.get(dead.id)
    assert found is not None
    assert (found.state, found.attempts) == ("queued", 0)
    refused = await post(proxy, f"/-/journal/{done.id}/retry")
    assert (refused.status, refused.headers["x-error-code"]) == (409, "entry_not_ready")
    lines = [line for line in proxy.log.events if line["event"] == "entry_retried"]
    assert [(line["entry"], line["by"]) for line in lines] == [(dead.id, "127.0.0.1")]


async def test_what_is_over_is_purged_by_state(proxy: Running) -> None:
    for state in ("dead", "dead", "completed"):
        await ended(proxy, state)
    for query in ("", "?state=", "?state=queued", "?state=dead,running"):
        assert (await post(proxy, f"/-/purge{query}")).status == 400
    reply = await post(proxy, "/-/purge?state=dead,failed")
    assert json.loads(reply.body) == {"done": "deleted 2 requests"}
    assert (await get(proxy, "/-/journal"))["counts"]["completed"] == 1


async def test_what_is_not_there_and_who_may_not(proxy: Running) -> None:
    for action in ("cancel", "retry"):
        assert (await post(proxy, f"/-/journal/nonesuch/{action}")).status == 404
        foreign = await post(proxy, f"/-/journal/nonesuch/{action}", **{"Sec-Fetch-Site": "cross-site"})
        assert foreign.status == 403
    assert (await ask(proxy.address, "GET", "/-/journal/nonesuch")).headers["x-error-code"] == "unknown_request"


async def test_a_journal_that_cannot_be_reached_leaves_the_rest_of_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = MemoryJournal(SystemClock())
    await journal.add(entry())
    stored = StoredEntries(journal)
    assert (await stored.view()).counts["queued"] == 1

    async def lost(*_: object) -> None:
        raise StoreUnavailable("it is gone")

    monkeypatch.setattr(journal, "entries", lost)
    monkeypatch.setattr(journal, "counts", lost)
    monkeypatch.setattr(journal, "get", lost)
    for asked in (stored.find({}), stored.get("x")):
        with pytest.raises(Refused) as caught:
            await asked
        assert (caught.value.status, caught.value.code) == (503, "journal_unavailable")
    view = await stored.view()
    assert (view.reached, view.entries, view.counts["queued"]) == (False, [], 1)
