"""proxy/batches/keeper.py."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.batches import keeper
from proxy.batches.keeper import Keeper
from proxy.batches.progress import status_of
from proxy.kernel.journal import JournalFull
from tests.support.backend import eventually
from tests.support.batches import Bench, lines, terms


@asynccontextmanager
async def kept(bench: Bench) -> AsyncIterator[Keeper]:
    bench.keeper.start()
    try:
        yield bench.keeper
    finally:
        await bench.keeper.stop()


async def until_waiting(bench: Bench, number: int) -> None:
    while await bench.waiting() != number:
        bench.keeper.kick("batch_1")
        await bench.journal.wait_for_change("batch_1", 0, 0.01)


async def test_a_batch_is_taken_from_its_file_to_its_results() -> None:
    bench = Bench()
    await bench.begin(lines("a", "b", "c"), terms(at_once=1))
    async with kept(bench):
        for _ in range(3):
            await until_waiting(bench, 1)
            await bench.answer()
        await eventually(lambda: len(bench.ended) == 1)
    batch = await bench.batch()
    assert (status_of(batch), batch.state, batch.meta["counts"]["succeeded"]) == ("completed", "completed", 3)
    assert [line["custom_id"] for line in await bench.read(batch.meta["output_file_id"])] == ["a", "b", "c"]


async def test_another_process_goes_on() -> None:
    bench = Bench()
    await bench.begin(lines("a", "b"), terms(at_once=1))
    async with kept(bench):
        await until_waiting(bench, 1)
    await bench.answer()
    bench.keeper = Keeper(bench.journal, bench.clock, bench.ended.append)
    bench.keeper.use(active=True)
    async with kept(bench):
        await until_waiting(bench, 1)
        await bench.answer()
        await eventually(lambda: len(bench.ended) == 1)
    assert (await bench.batch()).meta["counts"]["succeeded"] == 2


async def test_two_at_once_come_to_the_same() -> None:
    bench = Bench()
    other = Keeper(bench.journal, bench.clock, bench.ended.append)
    other.use(active=True)
    await bench.begin(lines("a", "b", "c", "d"), terms(at_once=2))
    async with kept(bench):
        other.start()
        for _ in range(2):
            await until_waiting(bench, 2)
            for _ in range(2):
                other.ended(await bench.answer())
        await eventually(lambda: len(bench.ended) > 0)
        await other.stop()
    batch = await bench.batch()
    assert batch.meta["counts"]["succeeded"] == 4
    assert [line["custom_id"] for line in await bench.read(batch.meta["output_file_id"])] == ["a", "b", "c", "d"]


async def test_a_file_with_mistakes_fails() -> None:
    bench = Bench()
    await bench.begin(b"{\n")
    async with kept(bench):
        await eventually(lambda: len(bench.ended) == 1)
    batch = await bench.batch()
    assert (status_of(batch), batch.state) == ("failed", "failed")
    assert batch.meta["problems"][0]["code"] == "invalid_json_line"


async def test_a_file_of_too_many_lines_fails() -> None:
    bench = Bench()
    await bench.begin(lines("a", "b"), terms(lines=1))
    async with kept(bench):
        await eventually(lambda: len(bench.ended) == 1)
    assert (await bench.batch()).meta["problems"][0]["code"] == "too_many_lines"


async def test_what_has_not_run_in_time_expires() -> None:
    bench = Bench()
    await bench.begin(lines("a", "b", "c"), terms(at_once=2))
    async with kept(bench):
        await until_waiting(bench, 2)
        await bench.answer()
        await until_waiting(bench, 2)
        bench.clock.advance(3601.0)
        bench.keeper.kick("batch_1")
        await eventually(lambda: len(bench.ended) == 1)
    batch = await bench.batch()
    assert (status_of(batch), batch.state) == ("expired", "expired")
    assert (batch.meta["counts"]["succeeded"], batch.meta["counts"]["expired"]) == (1, 2)
    errors = await bench.read(batch.meta["error_file_id"])
    assert {line["error"]["code"] for line in errors} == {"batch_expired"}


async def test_a_cancelled_batch_ends_with_what_it_has() -> None:
    bench = Bench()
    await bench.begin(lines("a", "b", "c"), terms(at_once=2))
    async with kept(bench):
        await until_waiting(bench, 2)
        await bench.answer()
        await bench.journal.set_meta("batch_1", {"cancelling_at": bench.clock.time()})
        bench.keeper.kick("batch_1")
        await eventually(lambda: len(bench.ended) == 1)
    batch = await bench.batch()
    assert (status_of(batch), batch.meta["counts"]["succeeded"], batch.meta["counts"]["canceled"]) == (
        "cancelled",
        1,
        2,
    )


async def test_where_nothing_is_kept_no_batch_is_looked_for() -> None:
    bench = Bench()
    bench.keeper.use(active=False)
    await bench.begin(lines("a"))
    async with kept(bench):
        await bench.journal.wait_for_change("batch_1", 0, 0.01)
    assert status_of(await bench.batch()) == "validating"


async def test_a_batch_whose_file_is_gone_is_over_for_whoever_is_to_be_told() -> None:
    bench = Bench()
    await bench.begin(lines("a"))
    await bench.journal.delete("file-in")
    async with kept(bench):
        await eventually(lambda: len(bench.ended) == 1)
    assert bench.ended[0].state == "failed"


async def test_a_batch_that_cannot_be_ended_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are looked at in the same round, whichever comes first."""
    bench = Bench()
    advanced: list[str] = []

    async def advance(id: str) -> None:
        advanced.append(id)
        raise (JournalFull("bytes", "no room") if id == "full" else ValueError("a bug"))

    monkeypatch.setattr(keeper, "EVERY", 3600.0)
    monkeypatch.setattr(bench.keeper, "_advance", advance)
    async with kept(bench):
        for name in ("full", "a", "b"):
            bench.keeper.kick(name)
        await eventually(lambda: sorted(advanced) == ["a", "b", "full"])
