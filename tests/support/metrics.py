"""Exchanges that are over, and a look at what was counted of them."""

from typing import Any

from prometheus_client.registry import Collector

from proxy.kernel.attempts import Attempt, Usage
from proxy.kernel.exchange import Exchange
from proxy.testing import make_exchange, suppose


async def finished(path: str = "/api/chat", model: str = "llama3.2", **changes: Any) -> Exchange:
    """Return a streamed request that ran from 10.0 to 12.5 s, its slot from 10.25, its first byte at 10.5."""
    exchange = make_exchange("POST", path, body=b'{"model":"%s"}' % model.encode(), started_at=10.0)
    await exchange.body()
    settings: dict[str, Any] = {
        "status": 200,
        "outcome": "completed",
        "backend": "b1",
        "committed": True,
        "first_byte_at": 10.5,
        "ended_at": 12.5,
        "chunks": 21,
        "bytes_in": 20,
        "bytes_out": 2000,
        "reading": 0.0,
        "history": [attempt()],
        "usage": Usage(tokens_in=30, tokens_out=21),
    }
    suppose(exchange, **(settings | changes))
    return exchange


def attempt(backend: str = "b1", error: str | None = None, began: float = 10.25, ended: float = 12.5) -> Attempt:
    return Attempt(backend, began, ended, cold=False, error=error)


class Numbers:
    """The samples of a collector by name; labels given narrow them down, and what is left is summed."""

    def __init__(self, collector: Collector) -> None:
        self.samples = [sample for family in collector.collect() for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float | None:
        found = [
            sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    def labels(self, name: str, label: str) -> set[str]:
        return {sample.labels[label] for sample in self.samples if sample.name == name}
