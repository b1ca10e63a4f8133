"""What a client prefers (RFC 7240), and the key by which it repeats a request (the draft Idempotency-Key)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Header, header_values
from proxy.kernel.errors import Refused

LONGEST_KEY: Final = 255
_PREFERENCE: Final = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]{1,64})\s*(?:=\s*"?([^";,]{0,64})"?\s*)?(?:;[^,]*)?')


@dataclass(frozen=True, slots=True)
class Preferences:
    """The preferences that matter here.

    Attributes:
        respond_async: whether the client would rather have its answer later than wait.
        wait: seconds that it would wait for; None where it does not say.
    """

    respond_async: bool = False
    wait: float | None = None


def preferences(headers: Iterable[Header]) -> Preferences:
    """Read the fields ``Prefer``. Of a preference that comes twice the first counts; what is malformed is ignored."""
    found: dict[str, str] = {}
    for value in header_values(headers, b"prefer"):
        for part in value.decode("latin-1").split(","):
            match = _PREFERENCE.fullmatch(part)
            if match is not None:
                found.setdefault(match[1].lower(), match[2] or "")
    wait = found.get("wait", "").strip()
    seconds = float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 10 else None
    return Preferences("respond-async" in found, seconds)


def idempotency_key(headers: Iterable[Header]) -> str | None:
    """Return the key of a request, None where it has none; raises Refused (400)."""
    values = header_values(headers, b"idempotency-key")
    if not values:
        return None
    key = values[0].decode("latin-1").strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(values) > 1 or not 0 < len(key) <= LONGEST_KEY:
        raise Refused(
            400,
            f"one Idempotency-Key of 1 to {LONGEST_KEY} characters is expected",
            code=codes.BAD_IDEMPOTENCY_KEY,
        )
    return key
