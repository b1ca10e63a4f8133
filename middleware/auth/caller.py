"""`Caller`, the result of authentication, and the errors that refuse a caller."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Final, Literal

from proxy.kernel import error_codes as codes
from proxy.kernel.error_codes import Code
from proxy.kernel.errors import Refused

REALM: Final = "ollama-proxy"

UNFIT: Final = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
"""Characters that no name may have, for a character class: they end lines, steer terminals or turn the text around."""


Reason = Literal[
    "missing", "malformed", "unknown", "expired", "disabled", "replayed", "not_accepted", "forbidden", "unavailable",
    "too_many", "revoked",
]  # fmt: skip
"""Reasons to refuse a caller, as metrics and the log name them."""


class NotLetIn(Refused):
    """A caller is refused because of its credential.

    Attributes:
        reason: why.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        reason: Reason,
        code: Code | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, code=code, headers=headers)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated or anonymous caller, with the facts that other plugins use.

    Attributes:
        identity: the caller's name; limits count by it and logs show it. None for callers without credentials.
        tenant: the group that shares its quotas.
        policy: a name under ``policies:``, or None for the chain as it stands.
        claims: the claims of its token or certificate.
        method: how it was known; see `proxy.kernel.journal.StoredCaller.method`.
    """

    identity: str | None
    tenant: str | None = None
    policy: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)
    method: str = field(default="none", compare=False)


def unauthorized(message: str, *, error: str | None = "invalid_token", reason: Reason = "unknown") -> NotLetIn:
    """Return the 401 of RFC 6750, section 3.

    Args:
        message: why, for the caller; a fixed text, with nothing of the request in it.
        error: the RFC's error code; None if the request carried no credential at all, as the RFC asks.
        reason: why, for metrics and the log.
    """
    challenge = f'Bearer realm="{REALM}"'
    if error is not None:
        description = message.replace("\\", "").replace('"', "'")
        challenge += f', error="{error}", error_description="{description}"'
    return NotLetIn(401, message, reason=reason, headers={"www-authenticate": challenge})


def insufficient_scope(scopes: str) -> NotLetIn:
    """Return the 403 of RFC 6750, section 3.1; `scopes` are the required scopes, separated by spaces."""
    return NotLetIn(
        403,
        f"the token lacks a scope: {scopes} is required",
        reason="forbidden",
        code=codes.INSUFFICIENT_SCOPE,
        headers={"www-authenticate": f'Bearer realm="{REALM}", error="insufficient_scope", scope="{scopes}"'},
    )


def revoked(message: str) -> NotLetIn:
    """Return the 401 for a stored request whose credential does not count any more."""
    return NotLetIn(401, message, reason="revoked", code=codes.REVOKED)


def unavailable(message: str, *, retry_after: float) -> NotLetIn:
    """Return the 503 for a credential that cannot be checked right now; such a caller is always refused."""
    code = codes.IDENTITY_PROVIDER_UNAVAILABLE
    return NotLetIn(503, message, reason="unavailable", code=code, headers=_wait(retry_after))


def too_many(message: str, *, retry_after: float) -> NotLetIn:
    """Return the 429 for an address that sent too many wrong credentials, or for too many checks at once."""
    return NotLetIn(429, message, reason="too_many", code=codes.TOO_MANY_CREDENTIALS, headers=_wait(retry_after))


def forbidden(message: str, *, code: Code) -> NotLetIn:
    """Return the 403 for a known caller who may not use the proxy."""
    return NotLetIn(403, message, reason="forbidden", code=code)


def again(refused: NotLetIn) -> NotLetIn:
    """Return a copy of the error: a raised exception keeps its request in memory."""
    return NotLetIn(refused.status, refused.message, reason=refused.reason, code=refused.code, headers=refused.headers)


def _wait(seconds: float) -> dict[str, str]:
    return {"retry-after": str(max(1, ceil(seconds)))}
