"""The contract of the retry budget."""

from abc import ABC, abstractmethod


class RetryBudget(ABC):
    """Bounds the retries of this process to a share of its requests.

    A caller is a name, or None for callers that are not told apart.
    """

    @abstractmethod
    def earn(self, share: float, caller: str | None = None) -> None:
        """Count one request of `caller` that may be retried; it earns `share` of a retry and runs until `done`."""

    @abstractmethod
    def done(self, caller: str | None = None) -> None:
        """Count the end of one running request of `caller`."""

    @abstractmethod
    def spend(self, caller: str | None = None) -> bool:
        """Take one retry for a request of `caller` from the budget; return False where none is left for it."""
