"""proxy/batches/progress.py."""

from typing import Any

import pytest

from proxy.batches.progress import file_id, form_of, open_in, request_id, status_of, tally, terms_of
from tests.support.batches import CHAT, Bench, lines, terms


@pytest.mark.parametrize(
    ("marks", "status"),
    [
        ((), "validating"),
        (("in_progress",), "in_progress"),
        (("in_progress", "finalizing"), "finalizing"),
        (("in_progress", "finalizing", "completed"), "completed"),
        (("in_progress", "cancelling"), "cancelling"),
        (("in_progress", "finalizing", "cancelling"), "cancelling"),
        (("in_progress", "cancelling", "cancelled"), "cancelled"),
        (("in_progress", "expired"), "expired"),
        (("failed",), "failed"),
    ],
)
async def test_the_status_is_the_last_step(marks: tuple[str, ...], status: str) -> None:
    noted: dict[str, Any] = {f"{mark}_at": 1.0 for mark in marks}
    batch = await Bench().begin(lines("a"), **noted)
    assert status_of(batch) == status


async def test_ids_are_always_the_same() -> None:
    batch = await Bench().begin(lines("a"))
    assert request_id(batch, 3) == request_id(batch, 3) != request_id(batch, 4)
    assert file_id(batch, "output") == file_id(batch, "output") != file_id(batch, "errors")


async def test_a_batch_knows_its_terms_and_form() -> None:
    on = terms(lines=5)
    batch = await Bench().begin(lines("a"), on)
    assert terms_of(batch) == on
    assert form_of(batch) == ("body", CHAT, "openai")


async def test_what_is_not_over_is_processing() -> None:
    batch = await Bench().begin(lines("a"), total=10)
    counts = tally(batch, {"completed": 2, "failed": 1, "dead": 1, "queued": 3, "running": 1})
    assert counts == {"processing": 6, "succeeded": 2, "errored": 2, "canceled": 0, "expired": 0}
    assert open_in({"queued": 3, "running": 1, "completed": 9}) == 4


async def test_numbers_of_a_batch_that_has_ended_are_kept() -> None:
    batch = await Bench().begin(lines("a"), total=1, counts={"processing": 0, "succeeded": 1})
    assert tally(batch, {}) == {"processing": 0, "succeeded": 1}
