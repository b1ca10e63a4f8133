"""The contract of who tells a client's address that a request or a batch is over."""

from abc import ABC, abstractmethod
from typing import Any, Final

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Scope, header_values
from proxy.kernel.errors import Refused
from proxy.kernel.journal import Entry
from proxy.kernel.webhook_options import WebhookOptions

WEBHOOK_URL: Final = b"x-webhook-url"
"""The field by which a client names an address."""
WEBHOOK: Final = "webhook"
"""The member of an entry's meta that holds the address to be called."""
OPTIONS: Final = "webhook_options"
"""The member of an entry's meta that says by which options the address was permitted: their `WebhookOptions.mark`."""
TOLD: Final = "webhook_told"
"""The member of an entry's meta that says that its address has been called, or given up: the fence it then had."""


class Webhooks(ABC):
    """Calls the address that an entry names, once it is over."""

    @abstractmethod
    def know(self, options: WebhookOptions) -> None:
        """Call by these options from now on, for as long as somebody holds them: the plugin of a policy in force."""

    @abstractmethod
    def notify(self, entry: Entry) -> None:
        """Have the address of an entry that is over called; does nothing where it names none. Never raises."""


def webhook_meta(scope: Scope, options: WebhookOptions | None) -> dict[str, Any]:
    """Return what the entry of a request notes of the address that is to be told: nothing where it names none.

    Raises Refused (403) where `options`, those of its caller's policy, do not permit the address.
    """
    values = header_values(scope["headers"], WEBHOOK_URL)
    if not values:
        return {}
    url = values[0].decode("latin-1").strip()
    if len(values) > 1 or options is None or not options.permits(url):
        raise Refused(
            403,
            "X-Webhook-URL: this address may not be called; defer.webhooks.targets has those that may",
            code=codes.WEBHOOK_NOT_ALLOWED,
        )
    return {WEBHOOK: url, OPTIONS: options.mark}
