"""The options of `rate_limit` that have a form of their own."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from middleware.rate_limit.who import By
from proxy.kernel.units import Rate

OnStoreFailure = Literal["open", "closed", "local"]
Rates = Rate | tuple[Rate, ...]
Streams = Annotated[int, Field(ge=1)]


class Limit(BaseModel):
    """One of several limits that hold together."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
    """What its counters, messages and headers are called by."""
    by: By | tuple[By, ...] = "identity"
    """What is counted together; a list counts combinations."""
    requests: Rates = ()
    """Requests let through, for example `60/minute`; several rates hold at once."""
    tokens: Rates = ()
    """Tokens in and out, for example `100000/minute`; several rates hold at once."""
    streams: Streams | None = None
    """Requests running at the same time, streamed or not."""
    on_store_failure: OnStoreFailure = "local"
    """What holds while a shared store is away: no limit, no request, or a share of the limit in this process."""


class Estimate(BaseModel):
    """How many tokens a request reserves until its real number is known."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    output: Annotated[int, Field(ge=0)] = 1024
    """Tokens expected of an answer where the request sets no bound of its own (`num_predict`, `max_tokens`, …); with
    `0` nothing is reserved for it."""
    max: Annotated[int, Field(ge=1)] = 16384
    """No request reserves more."""
