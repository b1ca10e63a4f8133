"""The terms on which files and batches are kept: options of `defer`, which its routes ask for."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from proxy.kernel.acceptance import DeferTerms
from proxy.kernel.asgi import Scope
from proxy.kernel.token_estimate import Estimate
from proxy.kernel.units import Duration, Least, Size
from proxy.kernel.webhook_options import WebhookOptions

_TERMS: Final = "ollama_proxy.batch_terms"


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
    """The terms of one policy.

    Attributes:
        bounds: the bounds of files and batches.
        defer: the terms on which each request of a batch is kept.
        webhooks: the addresses that may be told that a batch is over; None for none. Not kept with the batch.
    """

    bounds: BatchOptions
    defer: DeferTerms
    webhooks: WebhookOptions | None = None

    def as_meta(self) -> dict[str, Any]:
        """Return the terms as JSON, to be kept with a batch."""
        kept = {each.name: getattr(self.defer, each.name) for each in fields(self.defer)}
        return {"bounds": self.bounds.model_dump(), "defer": {**kept, "estimate": self.defer.estimate.model_dump()}}

    @classmethod
    def of_meta(cls, kept: Mapping[str, Any]) -> "BatchTerms":
        """Return the terms that were kept with a batch."""
        defer = {**kept["defer"], "estimate": Estimate(**kept["defer"]["estimate"])}
        return cls(BatchOptions.model_construct(**kept["bounds"]), DeferTerms(**defer))


def set_batch_terms(scope: Scope, terms: BatchTerms) -> None:
    """Note the terms for whoever answers the request. For `defer`; no client can set keys of a scope."""
    scope[_TERMS] = terms


def batch_terms(scope: Scope) -> BatchTerms | None:
    """Return the terms on which the caller may keep files and batches; None where the caller may not."""
    terms: BatchTerms | None = scope.get(_TERMS)
    return terms
