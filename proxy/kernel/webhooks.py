"""The contract of who tells a client's address that a request or a batch is over."""

from abc import ABC, abstractmethod
from typing import Final

from proxy.kernel.journal import Entry
from proxy.kernel.webhook_options import WebhookOptions

WEBHOOK: Final = "webhook"
"""The member of an entry's meta that holds the address to be called."""
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
