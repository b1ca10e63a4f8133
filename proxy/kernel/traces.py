"""The contract of traces: a collector, and what makes spans for it."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer


class Collector(NamedTuple):
    """The collector that spans are sent to, and which of them.

    Attributes:
        endpoint: URL, without credentials.
        headers: sent along; they may be secret.
        service: the name of the proxy in the spans.
        sample: the share of traces that is recorded, from 0 to 1.
    """

    endpoint: str
    headers: tuple[tuple[str, str], ...]
    service: str
    sample: float

    def __repr__(self) -> str:
        return f"<Collector at {self.endpoint}>"


class Traces(ABC):
    """Sends spans to collectors in the background."""

    @abstractmethod
    def tracer(self, collector: Collector) -> "Tracer":
        """Return OpenTelemetry's tracer for `collector`; OpenTelemetry's packages must be installed."""
