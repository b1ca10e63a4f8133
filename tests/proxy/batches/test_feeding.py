"""proxy/batches/feeding.py."""

from dataclasses import replace

from proxy.batches.feeding import feed
from proxy.batches.progress import request_id
from proxy.kernel.journal import Entry
from tests.support.batches import ANN, CHAT, SENT, Bench, lines, terms


async def running(bench: Bench, number: int, *, at_once: int = 3, per_identity: int = 1000) -> tuple[Entry, bytes]:
    data = lines(*(f"q{n}" for n in range(number)))
    on = terms(at_once=at_once, per_identity=per_identity)
    return await bench.begin(data, on, in_progress_at=1.0, total=number), data


async def test_a_few_lines_wait_at_a_time() -> None:
    bench = Bench()
    batch, data = await running(bench, 10)
    after = await feed(bench.journal, batch, data, bench.clock)
    assert after is not None
    assert (after.meta["fed"], await bench.waiting()) == (3, 3)
    await bench.answer()
    again = await feed(bench.journal, after, data, bench.clock)
    assert again is not None
    assert (again.meta["fed"], await bench.waiting()) == (4, 3)


async def test_a_request_is_the_callers_and_has_its_line() -> None:
    bench = Bench()
    batch, data = await running(bench, 1)
    await feed(bench.journal, batch, data, bench.clock)
    entry = await bench.journal.get(request_id(batch, 0))
    assert entry is not None
    assert (entry.caller, entry.path, entry.parent, entry.model) == (ANN, CHAT, batch.id, "m")
    assert (entry.priority, entry.meta["custom_id"], entry.expires_at) == (-10, "q0", batch.expires_at)
    assert await bench.journal.body(entry.id) == SENT.encode()


async def test_lines_that_are_fed_again_are_there_already() -> None:
    bench = Bench()
    batch, data = await running(bench, 3)
    for _ in range(3):  # each time as if nothing of it had been noted
        await feed(bench.journal, batch, data, bench.clock)
    assert await bench.waiting() == 3


async def test_a_journal_without_room_is_asked_again_later() -> None:
    bench = Bench()
    batch, data = await running(bench, 5, at_once=5, per_identity=2)
    after = await feed(bench.journal, batch, data, bench.clock)
    assert after is not None
    assert after.meta["fed"] == 2
    assert await feed(bench.journal, after, data, bench.clock) == after
    await bench.answer()
    again = await feed(bench.journal, after, data, bench.clock)
    assert again is not None
    assert again.meta["fed"] == 3


async def test_a_batch_that_is_cancelled_meanwhile_runs_nothing_more() -> None:
    bench = Bench()
    batch, data = await running(bench, 3)
    await bench.journal.set_meta(batch.id, {"cancelling_at": 2.0})
    await feed(bench.journal, batch, data, bench.clock)
    assert await bench.waiting() == 0


async def test_a_batch_that_is_deleted_meanwhile_runs_nothing_more() -> None:
    bench = Bench()
    batch, data = await running(bench, 3)
    await bench.journal.delete(batch.id)
    assert await feed(bench.journal, replace(batch), data, bench.clock) is None
    assert await bench.waiting() == 0
