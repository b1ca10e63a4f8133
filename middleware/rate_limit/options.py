"""The structured options of `rate_limit`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from proxy.kernel.quota_key import By
from proxy.kernel.units import Rate

OnStoreFailure = Literal["open", "closed", "local"]
Rates = Rate | tuple[Rate, ...]
Streams = Annotated[int, Field(ge=1)]


class Limit(BaseModel):
    """A limit of an entry; all limits of the entry apply together."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
    """The name in its counters, messages and headers."""
    by: By | tuple[By, ...] = "identity"
    """The requests that share a counter: those of one identity, for example; a list counts each combination."""
    requests: Rates = ()
    """Requests let through, for example `60/minute`; several rates apply together."""
    tokens: Rates = ()
    """Input and output tokens, for example `100000/minute`; several rates apply together."""
    streams: Streams | None = None
    """Requests running at the same time, streamed or not."""
    on_store_failure: OnStoreFailure = "local"
    """The rule while a shared store is out of reach: let all requests through (`open`), refuse all (`closed`), or apply
    a share of the limit in this process (`local`)."""
