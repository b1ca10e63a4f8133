"""The terms on which files and batches are kept: options of `defer`, which its routes ask for."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from proxy.kernel.units import Duration, Least, Size


class BatchOptions(BaseModel):
    """The bounds of files and batches, for each caller."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    lines: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Requests that a batch may have."""
    size: Size = 64 * 1024 * 1024
    """The largest file, one that was uploaded or one of results. What is uploaded is also bound by
    `server.body.each`."""
    open: Annotated[int, Field(ge=1)] = 10
    """Batches of a caller that may be open at a time."""
    files: Annotated[int, Field(ge=1)] = 100
    """Uploaded files that a caller may have."""
    at_once: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Requests of one batch that wait or run at a time; the others are still in its file."""
    window: Annotated[Duration, Least("1m")] = 86400.0
    """How long a batch may take; requests that have not run by then have expired."""
    keep: Annotated[Duration, Least("1m")] = 7 * 86400.0
    """How long files, batches and their results are kept."""


@dataclass(frozen=True, slots=True)
class BatchTerms:
    """The terms of one policy: the bounds, and what is noted with each request of a batch.

    Attributes:
        bounds: the bounds of files and batches.
        priority: the class in which requests wait for slots.
        weight: the tenant's share of the turns.
        per_identity: open requests that the caller may have.
        total: open requests in all.
        max_body: the largest body of a request, bytes.
        max_answer: the longest answer that is kept, bytes.
    """

    bounds: BatchOptions
    priority: int
    weight: float
    per_identity: int
    total: int
    max_body: int
    max_answer: int

    def as_meta(self) -> dict[str, Any]:
        """Return the terms as JSON, to be kept with a batch."""
        return asdict(self) | {"bounds": self.bounds.model_dump()}

    @classmethod
    def of_meta(cls, kept: Mapping[str, Any]) -> "BatchTerms":
        """Return the terms that were kept with a batch."""
        return cls(**{**kept, "bounds": BatchOptions.model_construct(**kept["bounds"])})
