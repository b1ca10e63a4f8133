"""proxy/batches/owned.py."""

from dataclasses import replace

import pytest

from proxy.batches.owned import Owned, behind, terms_for
from proxy.kernel.batch_terms import set_batch_terms
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.journal import JournalFull, NewEntry
from proxy.testing import make_exchange
from tests.support.batches import ANN, Bench, lines, terms


def asking(identity: str = "ann") -> Exchange:
    return make_exchange("GET", "/v1/files", identity=identity, tenant="physics")


async def test_an_entry_is_found_by_its_owner_and_api_alone() -> None:
    bench = Bench()
    await bench.begin(lines("a"))
    owned = Owned(bench.journal, "openai")
    assert await owned.find(asking(), "batch_1", "batch") is not None
    assert await owned.find(asking("bob"), "batch_1", "batch") is None
    assert await owned.find(asking(), "batch_1", "file") is None
    assert await owned.find(asking(), "", "batch") is None
    assert await owned.find(asking(), "x" * 10_000, "batch") is None
    assert await Owned(bench.journal, "anthropic").find(asking(), "batch_1", "batch") is None
    assert [entry.id for entry in await owned.all_of(asking(), "batch")] == ["batch_1"]
    assert await owned.all_of(asking("bob"), "batch") == []


async def test_open_batches_are_bounded() -> None:
    bench = Bench()
    owned = Owned(bench.journal, "openai")
    await owned.check_room(asking(), terms(open=1))
    await bench.begin(lines("a"))
    with pytest.raises(Refused) as refused:
        await owned.check_room(asking(), terms(open=1))
    assert (refused.value.status, refused.value.code) == (429, "too_many_batches")
    await owned.check_room(asking("bob"), terms(open=1))


async def test_a_journal_that_is_full_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()

    async def full(new: NewEntry) -> None:
        raise JournalFull("bytes", "no room")

    monkeypatch.setattr(bench.journal, "add", full)
    with pytest.raises(Refused) as refused:
        await Owned(bench.journal, "openai").add(NewEntry(id="file-1", kind="file", caller=ANN))
    assert (refused.value.status, refused.value.code) == (507, "journal_full")


def test_who_keeps_nothing_has_no_batches() -> None:
    exchange = asking()
    with pytest.raises(Refused) as refused:
        terms_for(exchange)
    assert (refused.value.status, refused.value.code) == (403, "batches_not_allowed")
    set_batch_terms(exchange.scope, terms())
    assert terms_for(exchange) == terms()


async def test_a_page_goes_on_behind_an_entry() -> None:
    first = await Bench().begin(lines("a"))
    entries = [replace(first, id=name) for name in "abc"]
    assert [entry.id for entry in behind(entries, "a")] == ["b", "c"]
    assert list(behind(entries, None)) == entries
    assert list(behind(entries, "x")) == []
