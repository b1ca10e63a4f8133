"""The contract of background mode: who answers a request that was put into the journal and runs later."""

from abc import ABC, abstractmethod
from typing import Final

from proxy.kernel.asgi import Send
from proxy.kernel.journal import Entry

PREFIX: Final = "resp_"
"""What the id of an entry begins with that is a response in background mode."""


class Background(ABC):
    """Answers requests in background mode, in the form of the API that was called."""

    @abstractmethod
    async def accepted(self, entry: Entry, send: Send, *, stream: bool) -> None:
        """Answer the request that became `entry`: with the object as it is now, or with its events as they come."""
