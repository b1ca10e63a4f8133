"""Who is calling, and the three ways to say no to him."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.errors import Refused

REALM: Final = "ollama-proxy"

UNFIT: Final = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
"""Characters that no name may have, for a character class: they end lines, steer terminals or turn the text around."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller as the rest of the chain knows him.

    Attributes:
        identity: his name; what limits count by and logs show. None for callers without credentials.
        tenant: the group that shares his quotas.
        policy: a name under ``policies:``, or None for the chain as it stands.
        claims: what his token or certificate says of him.
    """

    identity: str | None
    tenant: str | None = None
    policy: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)


def unauthorized(message: str, *, error: str | None = "invalid_token") -> Refused:
    """Return the 401 of RFC 6750, section 3.

    Args:
        message: why, for the caller; text of ours only, never of the request.
        error: the RFC's error code; None where the request carried no credential at all, as the RFC asks.
    """
    challenge = f'Bearer realm="{REALM}"'
    if error is not None:
        description = message.replace("\\", "").replace('"', "'")
        challenge += f', error="{error}", error_description="{description}"'
    return Refused(401, message, headers={"www-authenticate": challenge})


def insufficient_scope(scopes: str) -> Refused:
    """Return the 403 of RFC 6750, section 3.1; `scopes` are those asked for, with spaces between."""
    return Refused(
        403,
        f"the token lacks a scope: {scopes} is required",
        code="insufficient_scope",
        headers={"www-authenticate": f'Bearer realm="{REALM}", error="insufficient_scope", scope="{scopes}"'},
    )


def unavailable(message: str, *, retry_after: float) -> Refused:
    """Return the 503 for a credential that nobody can check right now: such a caller is never let in."""
    return Refused(
        503, message, code="identity_provider_unavailable", headers={"retry-after": str(max(1, round(retry_after)))}
    )
