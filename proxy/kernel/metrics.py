"""The contract of the metrics."""

from abc import ABC, abstractmethod

from proxy.kernel.exchange import Exchange


class Metrics(ABC):
    """Counts requests and how they ended."""

    @abstractmethod
    def count(self, exchange: Exchange) -> None:
        """Count a request that is over."""

    def not_let_in(self, credential: str, reason: str) -> None:  # noqa: B027  (metrics of requests only need not)
        """Count a refused caller by the kind of credential and the reason, each from a fixed list."""

    @abstractmethod
    async def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Return all numbers in a Prometheus text format, and its Content-Type.

        Args:
            accept: the Accept header of the scraper, which may ask for OpenMetrics.
        """
