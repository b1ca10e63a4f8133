"""What a client prefers who may be answered later: `Prefer` (RFC 7240), `Idempotency-Key` (an IETF draft)."""

import re
from dataclasses import dataclass
from typing import Final

from proxy.kernel.asgi import Scope, header_values
from proxy.kernel.errors import Refused

PREFER: Final = b"prefer"
IDEMPOTENCY_KEY: Final = b"idempotency-key"
LONGEST_WAIT: Final = 3600

_ELEMENT: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*+\\?(?:"|$)|[^",])+')
"""An element of the list: a comma in a quoted text separates none."""
_ASYNC: Final = re.compile(r'respond-async(?:\s*=\s*(?:"")?)?')
"""An empty value is none, says section 2."""
_WAIT: Final = re.compile(r'wait\s*=\s*"?(\d{1,9})"?', re.ASCII)
_KEY: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")


@dataclass(frozen=True, slots=True)
class Preferences:
    """The preferences of a client.

    Attributes:
        asynchronous: whether it asks to be answered later (``respond-async``).
        wait: the seconds that it would wait for its turn; None where it does not say.
    """

    asynchronous: bool = False
    wait: int | None = None


def preferences(scope: Scope) -> Preferences:
    """Return what the request prefers. What is unknown or cannot be read is ignored, as RFC 7240 says."""
    asynchronous, wait = False, None
    for value in header_values(scope["headers"], PREFER):
        for part in _ELEMENT.findall(value.decode("latin-1").lower()):
            preference = part.partition(";")[0].strip()
            if _ASYNC.fullmatch(preference):
                asynchronous = True
            elif wait is None and (found := _WAIT.fullmatch(preference)):
                wait = min(int(found[1]), LONGEST_WAIT)  # of two, the first counts
    return Preferences(asynchronous, wait)


def idempotency_key(scope: Scope) -> str | None:
    """Return the idempotency key of a request; None where it has none; raises Refused (400)."""
    values = header_values(scope["headers"], IDEMPOTENCY_KEY)
    if not values:
        return None
    key = values[0].decode("latin-1").strip()
    if len(key) > 1 and key.startswith('"') and key.endswith('"'):
        key = key[1:-1]  # the draft writes it as a string of RFC 8941; clients write it plainly
    if len(values) > 1 or not _KEY.fullmatch(key):
        raise Refused(400, "Idempotency-Key: send one, of 1 to 255 printable characters of ASCII")
    return key
