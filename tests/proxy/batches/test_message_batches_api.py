"""proxy/batches/message_batches_api.py; what its routes do is in tests/live/test_sdk_batches.py."""

from dataclasses import replace
from typing import Any

import pytest
from anthropic.types.messages import MessageBatch

from proxy.batches.message_batches_api import message_batch
from proxy.batches.progress import tally
from proxy.kernel.journal import State
from tests.support.batches import Bench

ADDRESS = "http://localhost:11435/v1/messages/batches/msgbatch_1/results"
ENDED = {"processing": 0, "succeeded": 1, "errored": 1, "canceled": 1, "expired": 0}


@pytest.mark.parametrize(
    ("state", "noted", "status", "processing"),
    [
        ("running", {"in_progress_at": 1.0}, "in_progress", 3),
        ("running", {"in_progress_at": 1.0, "cancelling_at": 2.0}, "canceling", 3),
        ("completed", {"in_progress_at": 1.0, "completed_at": 2.0, "ended_at": 2.0, "counts": ENDED}, "ended", 0),
        ("cancelled", {"cancelling_at": 1.0, "cancelled_at": 2.0, "ended_at": 2.0, "counts": ENDED}, "ended", 0),
    ],
)
async def test_every_status_is_the_sdks_type(state: State, noted: dict[str, Any], status: str, processing: int) -> None:
    batch = replace(await Bench().begin(b"", total=3, **noted), state=state)
    found = MessageBatch.model_validate(message_batch(batch, tally(batch, {"completed": 1}), ADDRESS))
    assert found.processing_status == status
    counts = found.request_counts.model_dump()
    assert (counts["processing"], sum(counts.values())) == (processing, 3)
    assert (found.results_url, found.ended_at is None) == ((ADDRESS, False) if status == "ended" else (None, True))
    assert found.created_at.tzinfo is not None
