"""How far a batch has come: what its entry notes, and what that makes of its status.

Everything is in the meta of the entry: when each step was taken (`in_progress_at`, `cancelling_at`, …, seconds since
1970), how many of its lines are in the journal as requests of their own (`fed`), and in the end the counts and files.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, Literal

from proxy.batches.input_lines import LineForm
from proxy.kernel.batch_terms import BatchTerms
from proxy.kernel.journal import Entry, State

Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
_STEPS: Final[tuple[Status, ...]] = (
    "failed", "cancelled", "expired", "completed", "cancelling", "finalizing", "in_progress",
)  # fmt: skip
"""The steps of a batch, each noted as ``STEP_at``; the first that is noted is its status."""
ENDS: Final[Mapping[str, State]] = {"cancelled": "cancelled", "expired": "expired", "completed": "completed"}
"""The statuses in which a batch has results, and the state that its entry has then."""


def status_of(batch: Entry) -> Status:
    """Return the status of a batch, as OpenAI names it."""
    return next((step for step in _STEPS if f"{step}_at" in batch.meta), "validating")


def terms_of(batch: Entry) -> BatchTerms:
    """Return the terms on which a batch was taken."""
    return BatchTerms.of_meta(batch.meta["terms"])


def form_of(batch: Entry) -> LineForm:
    """Return the form of a batch's lines."""
    return LineForm.of(batch.flavor, str(batch.meta["endpoint"]))


def request_id(batch: Entry, number: int) -> str:
    """Return the id of a request of a batch: always the same one, so that no line is taken twice."""
    return f"batch_req_{sha256(f'{batch.id} {number}'.encode()).hexdigest()[:32]}"


def file_id(batch: Entry, purpose: str) -> str:
    """Return the id of a file of results: always the same one, so that whoever ends a batch again finds it."""
    return f"file-{sha256(f'{batch.id} {purpose}'.encode()).hexdigest()[:32]}"


def open_in(counts: Mapping[State, int]) -> int:
    """Return how many requests of a batch are not over."""
    return counts.get("queued", 0) + counts.get("running", 0)


def tally(batch: Entry, counts: Mapping[State, int]) -> dict[str, int]:
    """Return the numbers of requests of a batch, by how they ended; those that are not over are ``processing``.

    Args:
        batch: the batch; once it has ended, the numbers are in its meta.
        counts: its requests in the journal, by state.
    """
    kept: Mapping[str, Any] | None = batch.meta.get("counts")
    if kept is not None:
        return dict(kept)
    found = {
        "succeeded": counts.get("completed", 0),
        "errored": counts.get("failed", 0) + counts.get("dead", 0),
        "canceled": counts.get("cancelled", 0),
        "expired": counts.get("expired", 0),
    }
    return {"processing": max(0, int(batch.meta.get("total", 0)) - sum(found.values())), **found}
