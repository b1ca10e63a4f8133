"""proxy/batches/ending.py."""

import json
from dataclasses import replace

import pytest

from proxy.batches.ending import end, ends_as
from proxy.batches.feeding import feed
from proxy.batches.progress import file_id
from proxy.kernel.journal import Entry
from tests.support.batches import Bench, lines, terms


async def answered(bench: Bench, *answers: tuple[int, bytes], most: str = "10KiB") -> tuple[Entry, bytes]:
    data = lines(*(f"q{number}" for number in range(len(answers))))
    batch = await bench.begin(data, terms(size=most), in_progress_at=1.0, total=len(answers))
    fed = await feed(bench.journal, batch, data, bench.clock)
    assert fed is not None
    for status, body in answers:
        await bench.answer(status, body)
    return fed, data


async def test_results_and_errors_have_files_of_their_own() -> None:
    bench = Bench()
    batch, data = await answered(bench, (200, b'{"a":1}'), (404, b'{"error":{}}'), (200, b'{"a":2}'))
    ended = await end(bench.journal, batch, data, "completed", bench.clock)
    assert ended is not None
    assert (ended.state, ended.meta["counts"]["succeeded"], ended.meta["counts"]["errored"]) == ("completed", 2, 1)
    assert [line["custom_id"] for line in await bench.read(ended.meta["output_file_id"])] == ["q0", "q2"]
    assert [line["custom_id"] for line in await bench.read(ended.meta["error_file_id"])] == ["q1"]
    assert not await bench.journal.children(batch.id)


async def test_without_results_there_is_no_file_of_them() -> None:
    bench = Bench()
    batch, data = await answered(bench, (404, b'{"error":{}}'))
    ended = await end(bench.journal, batch, data, "completed", bench.clock)
    assert ended is not None
    assert ended.meta["output_file_id"] is None
    assert len(await bench.read(ended.meta["error_file_id"])) == 1


async def test_it_may_be_begun_again_at_any_point() -> None:
    bench = Bench()
    batch, data = await answered(bench, (200, b'{"a":1}'), (404, b'{"error":{}}'))
    first = await end(bench.journal, batch, data, "completed", bench.clock)
    assert first is not None
    files = [await bench.read(file_id(batch, purpose)) for purpose in ("output", "errors")]
    # Another process has seen the batch before it had ended, and comes to it after its requests were removed.
    again = await end(bench.journal, batch, data, "completed", bench.clock)
    assert again == first
    assert [await bench.read(file_id(batch, purpose)) for purpose in ("output", "errors")] == files


async def test_a_batch_that_is_cancelled_has_what_was_answered() -> None:
    bench = Bench()
    batch, data = await answered(bench, (200, b'{"a":1}'))
    batch = replace(batch, meta={**batch.meta, "total": 3, "cancelling_at": 2.0})
    data = lines("q0", "q1", "q2")
    assert ends_as(batch, expired=False) == "cancelled"
    ended = await end(bench.journal, batch, data, "cancelled", bench.clock)
    assert ended is not None
    assert ended.state == "cancelled"
    errors = await bench.read(ended.meta["error_file_id"])
    assert [(line["custom_id"], line["error"]["code"]) for line in errors] == [
        ("q1", "batch_cancelled"),
        ("q2", "batch_cancelled"),
    ]


async def test_a_file_of_results_that_is_full_leaves_nothing_out_without_a_word() -> None:
    bench = Bench()
    long = json.dumps({"a": "x" * 1500}).encode()
    batch, data = await answered(bench, (200, long), (200, long), (200, long), most="4KiB")
    ended = await end(bench.journal, batch, data, "completed", bench.clock)
    assert ended is not None
    assert len(await bench.read(ended.meta["output_file_id"])) == 2
    (error,) = await bench.read(ended.meta["error_file_id"])
    assert (error["custom_id"], error["error"]["code"]) == ("q2", "file_full")


@pytest.mark.parametrize(("expired", "status"), [(True, "expired"), (False, "completed")])
async def test_how_a_batch_ends(expired: bool, status: str) -> None:
    batch = await Bench().begin(lines("a"), in_progress_at=1.0)
    assert ends_as(batch, expired=expired) == status
