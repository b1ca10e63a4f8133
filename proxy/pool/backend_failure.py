"""A failed request to one backend, as `proxy.pool.blame` judges it."""

from dataclasses import dataclass

from proxy.kernel.attempts import Failure
from proxy.kernel.exchange import Exchange
from proxy.pool.backend import Backend


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BackendFailure(Failure):
    """A failure with the backend that it may be the fault of.

    Attributes:
        host: the backend itself; after a reload another host may have its name.
        model: canonical key of the model that was asked for; None where none was.
        reason: what went wrong, for the operator.
        said: status and text of an error response, None of other failures. Where another backend says the same, the
            request is at fault.
        at: when the request failed, seconds of the monotonic clock.
    """

    host: Backend
    model: str | None
    reason: str
    said: tuple[int, str] | None
    at: float


def failures_of(exchange: Exchange) -> list[BackendFailure]:
    """Return the failures of a request at backends of the pool, the earliest first."""
    return [failure for failure in exchange.failed if isinstance(failure, BackendFailure)]
