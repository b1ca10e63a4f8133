"""Errors that pass: they say nothing of the request, only that its turn has not come."""

from typing import Final

from proxy.kernel.error_codes import (
    BODY_MEMORY_EXHAUSTED,
    BODY_SHARE_EXCEEDED,
    CONNECT_TIMEOUT,
    DRAINING,
    IDENTITY_PROVIDER_UNAVAILABLE,
    LIMITS_UNAVAILABLE,
    NO_BACKEND,
    NO_SLOT,
    QUEUE_FULL,
    QUEUE_SHARE_EXCEEDED,
    QUEUE_TIMEOUT,
    QUEUE_TOO_SLOW,
    RATE_LIMIT_EXCEEDED,
    SHUTDOWN,
    TENANT_QUEUE_FULL,
    UPSTREAM_UNREACHABLE,
    Code,
)

NO_ROOM: Final[frozenset[Code]] = frozenset({
    QUEUE_FULL, TENANT_QUEUE_FULL, QUEUE_SHARE_EXCEEDED, QUEUE_TOO_SLOW, QUEUE_TIMEOUT, NO_SLOT,
})  # fmt: skip
"""No slot is free, and none will be in time."""

NOT_YET: Final[frozenset[Code]] = NO_ROOM | {
    RATE_LIMIT_EXCEEDED, LIMITS_UNAVAILABLE, NO_BACKEND, DRAINING, CONNECT_TIMEOUT, UPSTREAM_UNREACHABLE,
    BODY_SHARE_EXCEEDED, BODY_MEMORY_EXHAUSTED, IDENTITY_PROVIDER_UNAVAILABLE, SHUTDOWN,
}  # fmt: skip
"""Those of `NO_ROOM`, and other bounds and outages; nothing was sent to a backend."""
