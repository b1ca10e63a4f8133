"""What a client asks for in its header fields: `Prefer` (RFC 7240), `Idempotency-Key` (an IETF draft), a webhook."""

import re
from dataclasses import dataclass
from typing import Final

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Scope, header_values
from proxy.kernel.errors import Refused
from proxy.kernel.webhook_options import WebhookOptions

PREFER: Final = b"prefer"
IDEMPOTENCY_KEY: Final = b"idempotency-key"
WEBHOOK_URL: Final = b"x-webhook-url"
LONGEST_WAIT: Final = 3600

_WAIT: Final = re.compile(r"wait\s*=\s*\"?(\d{1,9})\"?")
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
        for part in value.decode("latin-1").lower().split(","):
            preference = part.partition(";")[0].strip()
            if preference == "respond-async":
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


def webhook_url(scope: Scope, options: WebhookOptions | None) -> str | None:
    """Return the address that is to be told; None where the request names none; raises Refused (403)."""
    values = header_values(scope["headers"], WEBHOOK_URL)
    if not values:
        return None
    url = values[0].decode("latin-1").strip()
    if len(values) > 1 or options is None or not options.permits(url):
        raise Refused(
            403,
            "X-Webhook-URL: this address may not be called; defer.webhooks.targets has those that may",
            code=codes.WEBHOOK_NOT_ALLOWED,
        )
    return url
