"""Numbers that tests and the control surface read."""

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(slots=True)
class Counters:
    """Numbers since the simulator was made; those of the second group go up and down.

    A token is generated when the model has made it, delivered when it was written to a connection that was still
    open. `cancelled` counts requests whose client left before their end, `busy` the 503s of a full queue.
    """

    connections: int = 0
    requests: int = 0
    loads: int = 0
    unloads: int = 0
    busy: int = 0
    cancelled: int = 0
    faults: int = 0
    tokens_generated: int = 0
    tokens_delivered: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    max_active: int = 0
    max_generating: int = 0
    by_route: Counter[str] = field(default_factory=Counter)

    connections_open: int = 0
    active: int = 0
    waiting: int = 0
    loading: int = 0
    generating: int = 0

    def snapshot(self) -> dict[str, Any]:
        """Return a copy as plain data, ready for JSON."""
        # asdict would count the routes' counts: it rebuilds a Counter from pairs.
        return {each.name: getattr(self, each.name) for each in fields(self)} | {"by_route": dict(self.by_route)}
