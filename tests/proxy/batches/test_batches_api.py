"""proxy/batches/batches_api.py; what its routes do is in tests/live/test_sdk_batches.py."""

from typing import Any

import pytest
from openai.types import Batch

from proxy.batches.batches_api import batch_object
from proxy.batches.progress import status_of, tally
from tests.support.batches import Bench, lines

PROBLEM = {"code": "invalid_json_line", "line": 3, "message": "this line is not valid JSON", "param": None}


@pytest.mark.parametrize(
    "noted",
    [
        {},
        {"in_progress_at": 1.5, "total": 2, "model": "m"},
        {"in_progress_at": 1.5, "total": 2, "finalizing_at": 2.5},
        {"in_progress_at": 1.5, "total": 2, "completed_at": 2.5, "output_file_id": "file-1", "error_file_id": None},
        {"failed_at": 1.5, "problems": [PROBLEM]},
        {"in_progress_at": 1.5, "total": 2, "expired_at": 2.5, "error_file_id": "file-2"},
        {"in_progress_at": 1.5, "total": 2, "cancelling_at": 2.5},
        {"in_progress_at": 1.5, "total": 2, "cancelling_at": 2.5, "cancelled_at": 3.5},
        {"metadata": {"a": "b"}},
    ],
)
async def test_every_status_is_the_sdks_type(noted: dict[str, Any]) -> None:
    batch = await Bench().begin(lines("a"), **noted)
    found = Batch.model_validate(batch_object(batch, tally(batch, {"completed": 1, "failed": 1})), strict=True)
    assert found.status == status_of(batch)
    assert found.request_counts is not None
    assert (found.request_counts.completed, found.request_counts.failed) == (1, 1)
    assert (found.errors is None) == ("problems" not in noted)
    assert found.expires_at == 1_003_600
